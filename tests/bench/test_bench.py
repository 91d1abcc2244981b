"""That the benchmark measures what it says, and that it runs."""

import os
import ssl
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest
from bench import scale
from bench.__main__ import run
from bench.crowd import Crowd
from bench.curve import Curve
from bench.load import Message, Server, cpu_seconds, send
from bench.smarthost import PASSWORD, USERNAME, Smarthost
from servers.certificates import Certificates
from servers.processes import free_port
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
    assert send(direct(smarthost), smarthost, tls, Message(octets), 3) > 0


def test_a_message_that_was_changed_is_seen(
    smarthost: Smarthost, tls: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(smarthost, "take", lambda: b"of another message")
    with pytest.raises(AssertionError, match="changed"):
        send(direct(smarthost), smarthost, tls, Message(4096), 1)


def test_a_smarthost_that_is_far_away_takes_its_time(smarthost: Smarthost, tls: ssl.SSLContext) -> None:
    smarthost.move_away(0.02)
    # Greeting, EHLO, STARTTLS, EHLO, AUTH, MAIL, RCPT, DATA, and the end of the message.
    assert send(direct(smarthost), smarthost, tls, Message(100), 1) >= 9 * 0.02


@pytest.mark.parametrize("clients", [1, 5])
def test_of_a_crowd_each_client_sends_its_mails(smarthost: Smarthost, tls: ssl.SSLContext, clients: int) -> None:
    crowd = Crowd(clients, [replace(direct(smarthost), pid=os.getpid())], smarthost, tls)
    # The system counts in hundredths of a second, which so few may not take.
    assert crowd.seconds_of_a_session(Message(100), 2) >= 0
    assert crowd.seconds_of_a_mail(Message(100), 2, clients) >= 0


def test_a_client_that_fails_ends_its_crowd(smarthost: Smarthost, tls: ssl.SSLContext) -> None:
    good, bad = direct(smarthost), Server("nobody", free_port(), USERNAME, PASSWORD, None)
    with pytest.raises(ConnectionRefusedError):
        Crowd(3, [replace(good, pid=os.getpid()), bad], smarthost, tls).seconds_of_a_mail(Message(100), 2, 3)


@pytest.mark.parametrize("logarithmic", [False, True])
def test_a_curve_is_a_table_and_a_plot(capsys: pytest.CaptureFixture[str], logarithmic: bool) -> None:
    figures = {1: (0.0, 40.0), 1000: (2.5, 80.0)}
    curve = Curve("Fish", "nets", ("a cod", "a whale"), (1, 1000), figures.__getitem__, logarithmic=logarithmic)
    plot = ElementTree.fromstring(curve.plot(curve.measure()))
    printed = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert printed[-2:] == [["1", "0.00", "40.00"], ["1,000", "2.50", "80.00"]]
    words = {element.text for element in plot.iter()}
    assert {"Fish: CPU time, ms", "nets", "a cod", "a whale", "1,000"} <= words


@pytest.mark.slow
def test_a_quick_run_prints_and_plots_all_curves(
    shared_folder: Path, alice: User, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = shared_folder / "scale"
    folder.mkdir()
    scale.run(folder, [alice], scale.QUICK, tmp_path)
    printed = capsys.readouterr().out
    for title in ("Sessions at the same time", "Identities in a user's files", "Size of a message"):
        assert title in printed
    assert sorted(path.name for path in tmp_path.iterdir()) == ["identities.svg", "sessions.svg", "sizes.svg"]


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
