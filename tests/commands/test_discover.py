"""`sendooway discover`: what it prints of what was found."""

import json
from pathlib import Path

import pytest

from sendooway.accounts.account import Security
from sendooway.cli import main
from sendooway.discovery.internet import Internet
from sendooway.discovery.search import Candidate, Finding, Proposal, Search, Step

STEPS = (Step("DNS, _submissions._tcp.moon.test", "no such record"),)
OWN = Proposal(Candidate("smtp.moon.test", 465, Security.SMTPS), "DNS, _submissions._tcp.moon.test", confirmed=True)
OTHER = Proposal(Candidate("mx.moon.test", 587, Security.STARTTLS), "DNS, _submission._tcp.moon.test", confirmed=True)
FOREIGN = Proposal(Candidate("smtp.sun.test", 465, Security.SMTPS), "DNS, _submissions._tcp.moon.test", confirmed=False)


@pytest.fixture
def conf(tmp_path: Path) -> Path:
    path = tmp_path / "conf"
    path.touch(0o600)
    path.write_text(f"smarthostMapping = fetchmail:{tmp_path}/rc\n")
    return path


def find(monkeypatch: pytest.MonkeyPatch, finding: Finding) -> None:
    """What the Internet shall have answered. The real one is in tests/discovery."""

    def answer(internet: object, search: Search) -> Finding:
        return finding

    monkeypatch.setattr(Internet, "answer", answer)


def test_the_smarthost_and_ready_lines_are_printed_and_nothing_is_written(
    conf: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    find(monkeypatch, Finding((OWN, OTHER), STEPS, False))
    assert main(["discover", "-c", str(conf), "alice@moon.test"]) == 0
    assert capsys.readouterr().out == (
        "Looking for the smarthost of alice@moon.test:\n"
        "- DNS, _submissions._tcp.moon.test: no such record\n"
        "\n"
        "= smtp.moon.test:465 (smtps) belongs to moon.test and has proved it with its certificate.\n"
        "  Also: mx.moon.test:587 (starttls)\n"
        "\n"
        f"For {conf.parent}/rc, a new file that only you may read (chmod 600), "
        "with your password in place of PASSWORD:\n"
        "\n"
        '  #sendooway:server "smtp.moon.test"\n'
        "  #sendooway:ssl\n"
        '  #sendooway:user "alice@moon.test"\n'
        '  #sendooway:pass "PASSWORD"\n'
        '  #sendooway:address "alice@moon.test"\n'
        "\n"
        "Nothing was written. Then try it out: sendooway check\n"
    )
    assert [path.name for path in conf.parent.iterdir()] == ["conf"]


def test_a_host_elsewhere_is_marked(
    conf: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    find(monkeypatch, Finding((FOREIGN,), STEPS, False))
    assert main(["discover", "-c", str(conf), "alice@moon.test"]) == 0
    out = capsys.readouterr().out
    assert "! NOT CONFIRMED: smtp.sun.test:465 (smtps) is outside moon.test, and was not contacted." in out
    assert "  # Not confirmed: is smtp.sun.test really the provider's host?\n" in out


@pytest.mark.parametrize(
    ("offline", "status", "words"),
    [(True, 75, "Is this machine offline?"), (False, 1, "moon.test does not tell its smarthost.")],
)
def test_nothing_found_is_told(
    conf: Path,
    offline: bool,
    status: int,
    words: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    find(monkeypatch, Finding((), STEPS, offline))
    assert main(["discover", "-c", str(conf), "alice@moon.test"]) == status
    assert words in capsys.readouterr().out


def test_json_has_all_of_it(conf: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    find(monkeypatch, Finding((FOREIGN,), STEPS, False))
    assert main(["discover", "--json", "-c", str(conf), "alice@moon.test"]) == 0
    (found,) = json.loads(capsys.readouterr().out)
    assert found["proposals"] == [
        {
            "server": "smtp.sun.test",
            "port": 465,
            "security": "smtps",
            "username": None,
            "named_by": "DNS, _submissions._tcp.moon.test",
            "confirmed": False,
        }
    ]
    assert found["steps"] == [{"asked": "DNS, _submissions._tcp.moon.test", "outcome": "no such record"}]
    assert found["stanzas"][0]["source"] == "fetchmail"
    assert found["offline"] is False


@pytest.mark.parametrize("address", ["alice", "alice@localhost", 'a"b@moon.test', "<alice@moon.test>", "a@[192.0.2.1]"])
def test_what_is_no_mailbox_ends_with_64(conf: Path, address: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["discover", "-c", str(conf), "--", address]) == 64
    assert capsys.readouterr().err.startswith(f"sendooway: {address!r}: ")


def test_without_an_address_all_mailboxes_without_a_smarthost_are_looked_at(
    conf: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rc = conf.parent / "rc"
    rc.touch(0o600)
    rc.write_text(
        "poll pop.moon.test user alice password secret\n"
        "poll x.provider.test user bob password secret\n"
        "poll pop.sun.test user carol password secret\n"
        "  #sendooway:server mx.sun.test\n  #sendooway:ssl\n  #sendooway:address carol@sun.test\n"
    )
    find(monkeypatch, Finding((OWN,), STEPS, False))
    assert main(["discover", "-c", str(conf)]) == 0
    out = capsys.readouterr().out
    assert out.count("Looking for") == 1
    assert (
        f"For {rc}, in the entry of line 1, behind its user's options:\n\n"
        '  #sendooway:server "smtp.moon.test"\n'
        "  #sendooway:ssl\n"
        '  #sendooway:address "alice@moon.test"\n'
    ) in out
    assert f"! {rc}:2: the address of bob at x.provider.test is not obvious: say `sendooway discover ADDRESS`" in out
    rc.write_text("")
    assert main(["discover", "-c", str(conf)]) == 1
    assert capsys.readouterr().out == "No mailbox is without a smarthost; name one: sendooway discover ADDRESS\n"
