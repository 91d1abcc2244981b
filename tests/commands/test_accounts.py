"""`sendooway accounts`: what it prints, and how it ends."""

import json
from pathlib import Path

import pytest

from sendooway.cli import main

FETCHMAILRC = """\
poll mailbox.moon.test via pop.moon.test proto pop3 service 995
  user "alice" there has password "moon secret" is alice here ssl
    #sendooway:server "mx.moon.test"
    #sendooway:tls
    #sendooway:address "alice@moon.test"
    #sendooway:address "*@alice.moon.test"
  user "bob" there has password "of bob"
poll mailbox.sun.test proto imap user carol
    #sendooway:server "mx.sun.test"
    #sendooway:ssl
    #sendooway:nocertcheck
    #sendooway:user ""
    #sendooway:address "carol@sun.test"
"""


@pytest.fixture
def rc(tmp_path: Path) -> Path:
    path = tmp_path / "fetchmailrc"
    path.touch(0o600)
    path.write_text(FETCHMAILRC)
    return path


@pytest.fixture
def conf(tmp_path: Path) -> Path:
    path = tmp_path / "conf"
    path.touch(0o600)
    return path


def test_every_identity_is_in_the_table(rc: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["accounts", "--source", f"fetchmail:{rc}"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    words = [line.split() for line in out.splitlines()]
    assert words[0] == ["SENDER", "#", "SMARTHOST", "SECURITY", "LOGIN", "MECHANISM", "FILE"]
    assert words[1:4] == [
        ["alice@moon.test", "1", "mx.moon.test:587", "starttls", "alice", "password", f"{rc}:3"],
        ["*@alice.moon.test", "1", "mx.moon.test:587", "starttls", "alice", "password", f"{rc}:3"],
        ["carol@sun.test", "2", "mx.sun.test:465", "smtps,", "unchecked", "no", "login", f"{rc}:9"],
    ]
    assert ["mailbox.moon.test", "(POP3)", "bob", f"{rc}:7"] in words


def test_a_narrow_terminal_gets_paragraphs(
    rc: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "50")
    assert main(["accounts", "--source", f"fetchmail:{rc}"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:3] == ["alice@moon.test", "  #          1", "  smarthost  mx.moon.test:587"]


@pytest.mark.parametrize(
    ("line", "options", "shown"),
    [
        ("", "ssl", "password"),
        ("", "ssl,gssapi", "GSSAPI password"),
        ("smarthostPlain = never", "ssl,gssapi", "GSSAPI CRAM-MD5 LOGIN"),
        ("smarthostGssapi = never", "ssl,gssapi", "password"),
        ("", "ssl,noAuth", "no login"),
    ],
)
def test_the_mechanisms_are_those_that_may_log_in(
    conf: Path, line: str, options: str, shown: str, capsys: pytest.CaptureFixture[str]
) -> None:
    conf.write_text(f"{line}\nsmarthostMapping = direct:*@moon.test h.test 465 me secret {options}\n")
    assert main(["accounts", "-c", str(conf)]) == 0
    assert f"  {shown}  " in capsys.readouterr().out


def test_json_has_one_object_an_entry_in_file_order(rc: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["accounts", "--json", "--source", f"fetchmail:{rc}"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    first, second, third = json.loads(out)
    assert first == {
        "source": "fetchmail",
        "file": str(rc),
        "line": 3,
        "addresses": ["alice@moon.test", "*@alice.moon.test"],
        "server": "mx.moon.test",
        "port": 587,
        "security": "starttls",
        "username": "alice",
        "has_password": True,
        "no_cert_check": False,
        "gssapi": False,
        "usable": True,
        "problem": None,
        "retriever": {
            "server": "mailbox.moon.test",
            "via": "pop.moon.test",
            "port": 995,
            "protocol": "POP3",
            "ssl": True,
            "username": "alice",
            "has_password": True,
            "local_names": ["alice"],
        },
    }
    assert (second["addresses"], second["server"], second["has_password"]) == ([], None, False)
    assert (second["retriever"]["username"], second["retriever"]["has_password"]) == ("bob", True)
    assert (third["username"], third["has_password"], third["no_cert_check"]) == (None, False, True)
    assert third["security"] == "smtps"


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_nothing_secret_is_shown_unasked(rc: Path, options: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    main(["accounts", *options, "--source", f"fetchmail:{rc}", "--source", "direct:* h.test 25 me hunter2"])
    out, err = capsys.readouterr()
    for secret in ("moon secret", "of bob", "hunter2", '"password"'):
        assert secret not in out + err


def test_secrets_are_shown_when_asked_for(rc: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["accounts", "--json", "--show-secrets", "--source", f"fetchmail:{rc}"]) == 0
    first, second, third = json.loads(capsys.readouterr().out)
    assert (first["password"], first["retriever"]["password"]) == ("moon secret", "moon secret")
    assert (second["password"], second["retriever"]["password"]) == (None, "of bob")
    assert (third["password"], third["retriever"]["password"]) == (None, None)


def test_a_password_from_elsewhere_is_looked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rc, secret = tmp_path / "rc", tmp_path / "secret"
    rc.write_text(
        f'#sendooway:server mx.test\n#sendooway:user me\n#sendooway:passwordFrom "file:{secret}"\n'
        "#sendooway:ssl\n#sendooway:address me@test\n"
    )
    rc.chmod(0o600)
    ask = ["accounts", "--json", "--show-secrets", "--source", f"fetchmail:{rc}"]
    assert main(ask) == 0
    out, err = capsys.readouterr()
    (account,) = json.loads(out)
    assert (account["has_password"], account["password"]) == (False, None)
    assert f"{secret}: no such file" in err
    secret.write_text("found\n")
    secret.chmod(0o600)
    assert main(ask) == 0
    (account,) = json.loads(capsys.readouterr().out)
    assert (account["has_password"], account["password"]) == (True, "found")


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_a_file_that_its_program_would_not_read_ends_with_65(
    rc: Path, tmp_path: Path, options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    bad = tmp_path / "bad"
    bad.touch(0o600)
    bad.write_text("poll a.test\nproto no-such\n")
    assert main(["accounts", *options, "--source", f"fetchmail:{bad}", "--source", f"fetchmail:{rc}"]) == 65
    out, err = capsys.readouterr()
    assert err.splitlines()[-1].startswith(f"{bad}:2: ")
    assert "alice@moon.test" in out


def test_a_file_that_is_named_must_be_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["accounts", "--json", "--source", f"getmail:{tmp_path}/no"]) == 65
    assert capsys.readouterr() == ("[]\n", f"{tmp_path}/no: no such file\n")


def test_a_file_that_the_configuration_names_need_not_be_there(
    conf: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    conf.write_text(f"smarthostMapping = getmail:{tmp_path}/no\n")
    assert main(["accounts", "-c", str(conf)]) == 0
    assert capsys.readouterr() == (f"No sender has an account. Searched: {tmp_path}/no (no such file)\n", "")


def test_a_path_may_be_relative_and_have_a_percent_sign(
    rc: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(rc.parent)
    rc.rename(rc.parent / "100%u (1)")
    assert main(["accounts", "--source", "fetchmail:100%u (1)"]) == 0
    assert f"{rc.parent}/100%u (1):3" in capsys.readouterr().out


def test_a_folder_may_be_relative(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "putmail").mkdir()
    file = tmp_path / "putmail/alice@moon.test"
    file.touch(0o600)
    file.write_text("[config]\nserver = mx.moon.test\nport = 587\ntls = on\nemail = alice@moon.test\n")
    monkeypatch.chdir(tmp_path)
    assert main(["accounts", "--source", "putmail:putmail/"]) == 0
    assert f"{file}:1" in capsys.readouterr().out


def test_what_is_wrong_stands_below(conf: Path, rc: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rc.chmod(0o644)
    conf.write_text(
        "smarthostMapping = direct:*@moon.test h.test 25 me secret\n"
        f"smarthostMapping = fetchmail:{rc}\n"
        "smarthostMapping = direct:x@MOON.test h.test 465 me - ssl,gssapi\n"
        "smarthostMapping = direct:carol+x@sun.test h.test 465 me secret ssl\n"
    )
    assert main(["accounts", "-c", str(conf)]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    told = [line for line in out.splitlines() if line.startswith("! ")]
    assert told == [
        f"! {conf}:1: the password for h.test crosses the network in clear; with TLS it would not",
        f"! {rc}: others may read its passwords: `chmod go-r {rc}`",
        f"! {rc}:3: alice@moon.test is never looked up here: {conf}:1 serves it",
        f"! {conf}:3: x@MOON.test is never looked up here: {conf}:1 serves it",
        f"! {conf}:4: carol+x@sun.test is never looked up here: {rc}:9 serves it",
    ]


@pytest.mark.parametrize(
    ("host", "told"),
    [("localhost", False), ("LOCALHOST", False), ("127.0.0.1", False), ("127.moon.test", True), ("mx.moon.test", True)],
)
def test_a_password_that_crosses_the_network_in_clear_is_told(
    host: str, told: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["accounts", "--source", f"direct:* {host} 25 me secret"]) == 0
    assert ("crosses the network in clear" in capsys.readouterr().out) is told


def test_a_pattern_that_stands_twice_in_a_file_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rc = tmp_path / "rc"
    account = '#sendooway:server {}.test\n#sendooway:user ""\n#sendooway:ssl\n#sendooway:address {}\n'
    rc.write_text("".join(account.format(*one) for one in (("a", "*"), ("b", "x@y.test"), ("c", "X@y.test"))))
    rc.chmod(0o600)
    main(["accounts", "--source", f"fetchmail:{rc}"])
    told = [line for line in capsys.readouterr().out.splitlines() if line.startswith("! ")]
    assert told == [f"! {rc}:9: X@y.test is never looked up here: {rc}:5 serves it"]


@pytest.mark.parametrize(
    ("argv", "reason"),
    [
        (["--show-secrets"], "--show-secrets belongs to --json"),
        (["--source", "fetchmail"], "--source: SOURCE:ARGUMENT would be right, as in fetchmail:.fetchmailrc"),
        (["--source", ":x"], "--source: SOURCE:ARGUMENT would be right, as in fetchmail:.fetchmailrc"),
        (["surplus"], "unexpected argument 'surplus'"),
    ],
)
def test_a_wrong_command_line_ends_with_64(argv: list[str], reason: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["accounts", *argv]) == 64
    assert capsys.readouterr().err == f"sendooway: {reason} (--help shows all options)\n"


def test_an_unknown_source_ends_with_65(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["accounts", "--source", "mutt:/x"]) == 65
    assert capsys.readouterr().err.startswith("--source:1: the source of a mapping must be one of ")
