"""`sendooway check` against smarthosts that are fine, and against others."""

import json
import os
import pty
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from servers.certificates import Certificate, Certificates
from servers.postfix import Postfix
from servers.processes import PATIENCE, free_port, wait_until
from servers.scripted import Fault, ScriptedSmarthost, Stage

from sendooway.cli import main
from sendooway.net import tls

ACCOUNT = """\
#sendooway:server "127.0.0.1"
#sendooway:port {port}
#sendooway:user "me"
#sendooway:pass "hunter22"
{flags}
#sendooway:address "{sender}"
"""


class World:
    """Accounts with their smarthosts, in a file that a configuration names."""

    def __init__(self, stack: ExitStack, folder: Path, certificates: Certificates) -> None:
        self._stack = stack
        self._certificates = certificates
        self._rc, self._conf = folder / "rc", folder / "conf"
        self._conf.write_text(f"sslCA = {certificates.authority}\nsmarthostMapping = fetchmail:{self._rc}\n")
        self._rc.touch(0o600)

    def add(self, sender: str, port: int, *flags: str) -> None:
        lines = "\n".join(f"#sendooway:{flag}" for flag in flags)
        self._rc.write_text(self._rc.read_text() + ACCOUNT.format(port=port, sender=sender, flags=lines))

    def smarthost(self, sender: str, *flags: str, certificate: Certificate | None = None, **how: object) -> int:
        """Flags are those of the account; `ssl` is how the smarthost is, too. Returns its port."""
        certificate = certificate or self._certificates.good
        context = tls.server_context(str(certificate.certificate), str(certificate.key))
        server = ScriptedSmarthost(tls=context, implicit="ssl" in flags, **how)  # type: ignore[arg-type]
        port = self._stack.enter_context(server).port
        self.add(sender, port, *flags)
        return port

    def ask(self, *arguments: str) -> int:
        return main(["check", "-c", str(self._conf), *arguments])

    def check(self, capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, dict[str, dict[str, str]]]:
        """The status, and for each sender the verdicts by phase."""
        status = self.ask("--json", *arguments)
        reports = json.loads(capsys.readouterr().out)
        return status, {
            report["address"]: {phase: one["verdict"] for phase, one in report["results"].items()} for report in reports
        }


@pytest.fixture
def world(tmp_path: Path, certificates: Certificates) -> Iterator[World]:
    with ExitStack() as stack:
        yield World(stack, tmp_path, certificates)


ALL_WELL = {"IPv4": "good", "TLS": "doubtful", "EHLO": "good", "mechanisms": "good", "login": "good", "MAIL": "good"}
"""Certificates of tests end too soon not to be told of."""


@pytest.mark.parametrize("flag", ["tls", "ssl"])
def test_an_account_that_works_is_good_all_the_way(world: World, flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    world.smarthost("a@moon.test", flag)
    assert world.check(capsys) == (0, {"a@moon.test": ALL_WELL})


def test_no_mail_is_sent(world: World, certificates: Certificates) -> None:
    context = tls.server_context(str(certificates.good.certificate), str(certificates.good.key))
    with ScriptedSmarthost(tls=context) as smarthost:
        world.add("a@moon.test", smarthost.port, "tls", "address b@moon.test")
        assert world.ask() == 0
        wait_until(lambda: smarthost.commands[-1] == b"QUIT", "QUIT, which is not waited for")
    verbs = [line.split(b" ")[0] for line in smarthost.commands]
    assert verbs == [b"EHLO", b"STARTTLS", b"EHLO", b"AUTH", b"MAIL", b"RSET", b"MAIL", b"RSET", b"QUIT"]
    assert smarthost.commands[-3] == b"MAIL FROM:<a@moon.test>"
    assert smarthost.mails == []


@pytest.mark.parametrize(
    ("answers", "phase", "words"),
    [
        ({Stage.GREETING: [b"554 5.7.1 Go away"]}, "EHLO", "greeting: it is not ready; it said: 554 5.7.1 Go away"),
        ({Stage.GREETING: [Fault.CLOSE]}, "EHLO", "greeting: it closed the connection"),
        ({Stage.EHLO: [b"550 5.7.1 Who are you?"]}, "EHLO", "it said: 550 5.7.1 Who are you?"),
        ({Stage.STARTTLS: [b"454 4.7.0 Not now"]}, "TLS", "STARTTLS: it refused STARTTLS; it said: 454 4.7.0 Not now"),
        ({Stage.TLS: [Fault.CLOSE]}, "TLS", "TLS: "),
        ({Stage.AUTH: [b"535 5.7.8 Read this"]}, "login", "refused the login of me; it said: 535 5.7.8 Read this"),
        ({Stage.MAIL: [b"553 5.7.1 Not yours"]}, "MAIL", "MAIL FROM:<a@moon.test>: it said: 553 5.7.1 Not yours"),
        ({Stage.MAIL: [Fault.RESET]}, "MAIL", "MAIL FROM:<a@moon.test>: "),
        ({Stage.RSET: [b"500 What?"]}, "MAIL", "RSET: it said: 500 What?"),
    ],
)
def test_what_fails_is_red_with_the_smarthosts_own_words(
    world: World,
    answers: dict[Stage, list[bytes | Fault]],
    phase: str,
    words: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    world.smarthost("a@moon.test", "tls", answers=answers)
    status, verdicts = world.check(capsys)
    assert status == 1
    assert [name for name, verdict in verdicts["a@moon.test"].items() if verdict == "bad"] == [phase]
    assert ("login" in verdicts["a@moon.test"]) == (phase in ("login", "MAIL"))
    assert world.ask() == 1
    assert words in capsys.readouterr().out


@pytest.mark.parametrize("kind", ["expired", "wrong_name", "self_signed", "foreign"])
def test_a_bad_certificate_is_red_unless_the_account_does_not_mind(
    world: World, certificates: Certificates, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = getattr(certificates, kind)
    world.smarthost("a@moon.test", "tls", certificate=bad)
    world.smarthost("b@moon.test", "ssl", "nocertcheck", certificate=bad)
    status, verdicts = world.check(capsys)
    assert status == 1
    assert verdicts == {"a@moon.test": {"IPv4": "good", "TLS": "bad", "EHLO": "good"}, "b@moon.test": ALL_WELL}


def test_what_cannot_be_reached_is_red(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world.add("a@moon.test", free_port(), "tls")
    assert world.check(capsys) == (1, {"a@moon.test": {"IPv4": "bad"}})
    assert world.ask() == 1
    assert "127.0.0.1: Connection refused" in capsys.readouterr().out


def test_accounts_are_tried_side_by_side(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as two:

        def greet_when_both_are_there() -> None:
            connections = [listener.accept()[0] for listener in (one, two)]
            for connection in connections:
                connection.sendall(b"554 5.7.1 Both are here\r\n")
                connection.close()

        server = threading.Thread(target=greet_when_both_are_there, daemon=True)
        server.start()
        world.add("a@moon.test", one.getsockname()[1], "tls")
        world.add("b@moon.test", two.getsockname()[1], "tls")
        assert world.ask() == 1
        server.join(30)
    assert capsys.readouterr().out.count("it said: 554 5.7.1 Both are here") == 2


def test_only_the_accounts_of_the_addresses_are_tried(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world.smarthost("*@moon.test", "tls")
    world.add("a@sun.test", free_port(), "tls")
    assert world.check(capsys, "x@moon.test") == (0, {"x@moon.test": ALL_WELL})
    status, verdicts = world.check(capsys, "x@moon.test", "x@sun.test")
    assert (status, verdicts["x@sun.test"]) == (1, {})
    assert world.ask("x@sun.test") == 1
    assert "! x@sun.test: no account serves this sender" in capsys.readouterr().out


def test_for_a_wildcard_there_is_no_address_to_say(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world.smarthost("*@moon.test", "tls")
    status, verdicts = world.check(capsys)
    assert status == 0
    assert "MAIL" not in verdicts["*@moon.test"]
    assert world.ask() == 0
    assert capsys.readouterr().out.splitlines()[1].endswith("no address")


@pytest.mark.parametrize(("offered", "status"), [((b"SMTPUTF8", b"AUTH PLAIN"), 0), ((b"AUTH PLAIN",), 1)])
def test_an_address_in_utf8_needs_smtputf8(
    world: World, offered: tuple[bytes, ...], status: int, capsys: pytest.CaptureFixture[str]
) -> None:
    world.smarthost("\u00fc@moon.test", "tls", capabilities=offered)
    assert world.check(capsys)[0] == status
    assert world.ask() == status
    assert ("MAIL FROM:<\u00fc@moon.test>: it takes no UTF-8 addresses" in capsys.readouterr().out) == (status == 1)


def test_an_account_without_tls_is_told(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world.smarthost("a@moon.test")
    assert world.check(capsys) == (0, {"a@moon.test": ALL_WELL})
    assert world.ask() == 0
    assert "127.0.0.1: all goes in clear" in capsys.readouterr().out


def test_a_password_is_never_shown_even_where_the_smarthost_says_it(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    world.smarthost("a@moon.test", "tls", answers={Stage.AUTH: [b"535 5.7.8 hunter22 is wrong"]})
    for options in ([], ["--json"]):
        assert world.ask(*options) == 1
        out, err = capsys.readouterr()
        assert "hunter22" not in out + err
        assert "words withheld" in out


def test_what_a_smarthost_says_cannot_drive_the_terminal(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world.smarthost("a@moon.test", "tls", answers={Stage.AUTH: [b"535 5.7.8 \x1b]0;pwned\x07\xff"]})
    assert world.ask() == 1
    assert r"535 5.7.8 \x1b]0;pwned\x07\xff" in capsys.readouterr().out


def test_a_password_that_cannot_be_had_is_red(world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    port = world.smarthost("a@moon.test", "tls")
    rc = tmp_path / "rc"
    rc.write_text(rc.read_text().replace('pass "hunter22"', 'passwordFrom "command:false"'))
    assert world.ask() == 1
    out = capsys.readouterr().out
    assert re.search(rf"a@moon.test +127.0.0.1:{port} +UNUSABLE", out, re.IGNORECASE)
    assert "the password's command false" in out


def test_a_password_that_a_command_prints_logs_in(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    world.smarthost("a@moon.test", "tls")
    rc = tmp_path / "rc"
    rc.write_text(rc.read_text().replace('pass "hunter22"', 'passwordFrom "command:echo hunter22"'))
    assert world.check(capsys) == (0, {"a@moon.test": ALL_WELL})


def test_a_file_that_cannot_be_used_ends_with_65(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "rc").write_text("poll\n")
    assert world.ask() == 65
    out, err = capsys.readouterr()
    assert err.startswith(f"{tmp_path}/rc:")
    assert out.startswith("There is no account to check")


def test_without_any_account_nothing_is_well(world: World) -> None:
    assert world.ask() == 1


def test_on_a_terminal_it_tells_how_far_it_is(world: World, tmp_path: Path) -> None:
    world.smarthost("a@moon.test", "tls")
    screen, terminal = pty.openpty()
    try:
        argv = [sys.executable, "-m", "sendooway", "check", "--json", "-c", str(tmp_path / "conf")]
        done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=terminal, timeout=120, check=True)
        shown = os.read(screen, 65536).decode()
    finally:
        os.close(terminal)
        os.close(screen)
    for line in ("0 of 1 done; a@moon.test (IPv6)", "0 of 1 done; a@moon.test (login)", "1 of 1 done"):
        assert f"\r\x1b[K{line}" in shown
    assert shown.endswith("\r\x1b[K")
    assert json.loads(done.stdout)[0]["good"]


def test_an_interrupt_ends_it_at_once(world: World, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        world.add("a@moon.test", listener.getsockname()[1], "tls")
        argv = [sys.executable, "-m", "sendooway", "check", "-c", str(tmp_path / "conf")]
        with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as run:
            # It waits for a greeting then, for a minute.
            with listener.accept()[0]:
                run.send_signal(signal.SIGINT)
                assert run.communicate(timeout=PATIENCE) == (b"", b"")
            assert run.returncode == 128 + signal.SIGINT


@pytest.mark.slow
def test_a_real_postfix_is_good_and_refuses_a_wrong_password(
    world: World, postfix: Postfix, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    world.add("alice@moon.test", postfix.port, "tls")
    world.add("alice@sun.test", postfix.smtps_port, "ssl")
    rc = tmp_path / "rc"
    rc.write_text(rc.read_text().replace('"me"', '"alice-moon"', 1).replace('"hunter22"', '"moon secret"', 1))
    status, verdicts = world.check(capsys)
    assert status == 1
    assert verdicts["alice@moon.test"] == ALL_WELL
    assert verdicts["alice@sun.test"]["login"] == "bad"
    assert world.ask() == 1
    assert "it refused the login of me; it said: 535 5.7.8 Error: authentication failed" in capsys.readouterr().out
