"""That the benchmark measures what it says, and that it runs."""

import os
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from bench.__main__ import run
from bench.load import Server, cpu_seconds, message, send
from bench.smarthost import PASSWORD, USERNAME, Smarthost
from servers.certificates import Certificates
from servers.users import User

_BUSY = "import time\nwhile time.process_time() < 0.1: pass"
_TABLES = ("one mail a session", "twenty mails a session", "a mail of 1 MB", "a second mail")


@pytest.fixture
def smarthost(certificates: Certificates) -> Iterator[Smarthost]:
    with Smarthost(certificates.good) as smarthost:
        yield smarthost


def direct(smarthost: Smarthost) -> Server:
    return Server("direct", smarthost.port, USERNAME, PASSWORD, None)


def test_processes_that_have_ended_are_counted() -> None:
    before = cpu_seconds(os.getpid())
    script = f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {_BUSY!r}], check=True)"
    subprocess.run([sys.executable, "-c", script], check=True)
    assert cpu_seconds(os.getpid()) >= before + 0.1


@pytest.mark.parametrize("octets", [0, 4096, 1_000_000])
def test_every_message_arrives_as_it_is(smarthost: Smarthost, tls: ssl.SSLContext, octets: int) -> None:
    assert send(direct(smarthost), smarthost, tls, message(octets), 3) > 0


def test_a_message_that_was_changed_is_seen(
    smarthost: Smarthost, tls: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(smarthost, "take", lambda: b"of another message")
    with pytest.raises(AssertionError, match="direct has changed the message"):
        send(direct(smarthost), smarthost, tls, message(4096), 1)


def test_a_smarthost_that_is_far_away_takes_its_time(smarthost: Smarthost, tls: ssl.SSLContext) -> None:
    smarthost.move_away(0.02)
    # Greeting, EHLO, STARTTLS, EHLO, AUTH, MAIL, RCPT, DATA, and the end of the message.
    assert send(direct(smarthost), smarthost, tls, message(100), 1) >= 9 * 0.02


@pytest.mark.slow
def test_a_short_benchmark_prints_all_tables(
    shared_folder: Path, alice: User, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = shared_folder / "bench"
    folder.mkdir()
    run(folder, alice, rounds=1, megabytes=1, sessions=2)
    printed = capsys.readouterr().out
    for title in _TABLES:
        assert title in printed
    assert printed.count("  Sendooway  ") == len(_TABLES)
