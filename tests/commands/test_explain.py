"""`sendooway explain`: which pattern decides, and what was searched before it."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sendooway.accounts.account import Account, AccountsError, NoAccount
from sendooway.accounts.lookup import list_accounts, look_up
from sendooway.accounts.user_file import UserFiles
from sendooway.auth.identity import Identity
from sendooway.cli import main
from sendooway.commands.explain import explain
from sendooway.commands.reading import Reading
from sendooway.config import Mapping
from sendooway.origin import Origin
from sendooway.secret import Secret


@pytest.fixture
def conf(tmp_path: Path) -> Path:
    """Four sources: a file without accounts, one that is missing, a wildcard, and two addresses."""
    empty, rc, path = tmp_path / "empty", tmp_path / "rc", tmp_path / "conf"
    empty.write_text("poll a.test user alice password x\n")
    rc.write_text(
        "#sendooway:server mx.sun.test\n#sendooway:tls\n#sendooway:user carol\n#sendooway:pass secret\n"
        "#sendooway:address carol@sun.test\n#sendooway:address office@sun.test\n"
    )
    path.write_text(
        f"smarthostMapping = fetchmail:{empty}\n"
        f"smarthostMapping = getmail:{tmp_path}/no\n"
        "smarthostMapping = direct:*@moon.test mx.moon.test 465 alice secret ssl\n"
        f"smarthostMapping = fetchmail:{rc}\n"
    )
    for file in (empty, rc, path):
        file.chmod(0o600)
    return path


def test_the_pattern_and_all_that_was_searched_before_are_told(conf: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "-c", str(conf), "Carol+lists@sun.test"]) == 0
    folder = conf.parent
    assert capsys.readouterr() == (
        "Sender Carol+lists@sun.test\n"
        f"- {folder}/empty: has 1 mailbox, and no smarthost for any sender\n"
        f"- {folder}/no: no such file\n"
        f"- direct: in {conf}:3: has only *@moon.test\n"
        f"= {folder}/rc:1: matches carol@sun.test (the address without what follows its +)\n"
        "  goes to mx.sun.test:587, starttls as carol (CRAM-MD5 PLAIN LOGIN)\n",
        "",
    )


@pytest.mark.parametrize(
    ("address", "pattern"),
    [
        ("carol@sun.test", "carol@sun.test (the address itself)"),
        ("x@MOON.test", "*@moon.test (every sender of the domain)"),
    ],
)
def test_the_kind_of_match_is_told(conf: Path, address: str, pattern: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "-c", str(conf), address]) == 0
    assert f"matches {pattern}\n" in capsys.readouterr().out


def test_json_says_the_same(conf: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "--json", "-c", str(conf), "x@moon.test"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "address": "x@moon.test",
        "pattern": "*@moon.test (every sender of the domain)",
        "file": str(conf),
        "line": 3,
        "server": "mx.moon.test",
        "port": 465,
        "security": "smtps",
        "username": "alice",
        "searched": [
            {"source": f"{conf.parent}/empty", "outcome": "has 1 mailbox, and no smarthost for any sender"},
            {"source": f"{conf.parent}/no", "outcome": "no such file"},
        ],
        "problem": None,
    }


@pytest.mark.parametrize("address", ["nobody@where.test", "<>", "garbage"])
def test_a_sender_without_an_account_ends_with_1(conf: Path, address: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "-c", str(conf), address]) == 1
    assert "! no account" in capsys.readouterr().out


def test_a_source_that_cannot_be_used_ends_the_search_with_65(conf: Path, capsys: pytest.CaptureFixture[str]) -> None:
    broken = conf.parent / "empty"
    broken.write_text("poll\n")
    assert main(["explain", "-c", str(conf), "x@moon.test"]) == 65
    out = capsys.readouterr().out
    assert f"! {broken}:" in out
    assert out.endswith("  As long as it is so, mails of this sender are refused.\n")


def test_what_guess_accounts_would_do_is_told(conf: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (conf.parent / "empty").write_text("poll pop.a.test user alice password x\n")
    for more, words in (("", "no account serves"), ("guessAccounts = yes\n", "is the mailbox of this sender")):
        conf.write_text(conf.read_text() + more)
        assert main(["explain", "-c", str(conf), "Alice@a.test"]) == 1
        assert words in capsys.readouterr().out


PATTERNS = st.sampled_from(["a@x.test", "A@X.test", "a+b@x.test", "b@x.test", "*@x.test", "*@y.test", "*", "<>"])
SENDERS = st.sampled_from(
    ["", "a@x.test", "a+b@x.test", "a+c@x.test", "b@X.test", "c@y.test", "d@z.test", "a", "@x.test"]
)
USER = Identity("me", 0, 0, "/")


@given(st.lists(PATTERNS, max_size=4), SENDERS)
def test_it_explains_what_a_look_up_does(patterns: list[str], sender: str) -> None:
    mappings = [
        Mapping("direct", Secret(f"{pattern} h{number}.test 25 me secret".encode()), Origin("conf", number))
        for number, pattern in enumerate(patterns, 1)
    ]
    files = UserFiles(0)
    readings = [Reading(mapping, list_accounts(mapping, USER, files)) for mapping in mappings]
    expected: Account | None
    try:
        expected = look_up(sender, mappings, USER, files, None)
    except (NoAccount, AccountsError):
        expected = None
    explanation = explain(sender, readings)
    assert explanation.account == expected
    assert bool(explanation.reason) == (expected is None)
    assert len(explanation.vain) == (len(mappings) if expected is None else expected.origin.line - 1)
