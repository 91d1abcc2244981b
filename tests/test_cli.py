"""The command: what it prints and how it ends, short of serving anybody."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from servers.certificates import Certificates

from sendooway import commands
from sendooway.cli import main
from sendooway.options import HELP


@pytest.fixture
def conf(tmp_path: Path) -> Path:
    path = tmp_path / "conf"
    path.touch(0o600)
    return path


@pytest.mark.parametrize("argv", [["-h"], ["--help"], ["-b", "25", "-h"]])
def test_help_is_printed(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(argv) == 0
    assert capsys.readouterr() == (HELP, "")


def test_whoever_starts_it_may_ignore_its_own_children() -> None:
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        main(["--help"])
        assert signal.getsignal(signal.SIGCHLD) is signal.SIG_DFL
    finally:
        signal.signal(signal.SIGCHLD, before)


@pytest.mark.parametrize("argv", [["-V"], ["--version"]])
def test_the_version_is_printed(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(argv) == 0
    out, err = capsys.readouterr()
    assert out.startswith("sendooway ")
    assert out.count("\n") == 1
    assert err == ""


def test_a_wrong_command_line_ends_with_64_and_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--no-such"]) == 64
    assert capsys.readouterr() == (
        "",
        "sendooway: option --no-such not recognized (--help shows all options)\n",
    )


def test_the_defaults_are_a_good_configuration(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--check-config", "-c", "/dev/null"]) == 0
    assert capsys.readouterr() == ("/dev/null: ok\n", "")


def test_a_good_configuration_is_ok_with_its_warnings(conf: Path, capsys: pytest.CaptureFixture[str]) -> None:
    conf.write_text("timeout = 3\ntimeout = 5\nsmarthostMapping = direct:* h 25 me hunter2\n")
    conf.chmod(0o644)
    assert main(["--check-config", f"-c{conf}"]) == 0
    assert capsys.readouterr() == (
        f"{conf}: ok\n",
        f"warning: {conf}:2: timeout: this line replaces the one at {conf}:1\n"
        f"warning: {conf}:3: smarthostMapping: others may read this password; `chmod 600 {conf}` would be right\n",
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("\nworkers = many", ":2: workers: 'many' is not a number from 1 to 64"),
        ("\nsmarthostMapping = mutt:%h/.muttrc", ":2: smarthostMapping: "),
        ("smarthostMapping = getmail:%x/rc", ":1: smarthostMapping: "),
        ("smarthostMapping = direct:* h 25 me", ":1: smarthostMapping: "),
        ("smarthostMapping = direct:* h 25 me pw\nsmarthostMapping = direct:* h imap me pw", ":2: smarthostMapping: "),
        ("\nrunAs = no-such-user", ":2: runAs: there is no user no-such-user; `adduser --system no-such-user`"),
        ("runAs = root", ":1: runAs: root has root's rights; "),
        ("sslCA = /no/such", ":1: sslCA: cannot read '/no/such': No such file or directory; "),
        ("\nsslCert = /no/such", ":2: sslCert: cannot read '/no/such': No such file or directory; "),
        ("sslCert = /dev/null\nsslKey = /no/such", ":2: sslKey: cannot read '/no/such': No such file or directory; "),
        ("ldapSSLca = /no/such", ":1: ldapSSLca: cannot read '/no/such': No such file or directory; "),
        ("sslCert = /dev/null", ":1: sslCert: cannot use certificate and key of /dev/null"),
        ("sslCA = /dev/null", ":1: sslCA: cannot read trusted certificates of /dev/null: "),
        ("ldapSSLca = /dev/null", ":1: ldapSSLca: cannot read trusted certificates of /dev/null: "),
    ],
)
def test_a_wrong_configuration_ends_with_78_and_one_line(
    conf: Path, text: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    conf.write_text(text)
    assert main(["--check-config", "-c", str(conf)]) == 78
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"sendooway: {conf}{message}")
    assert err.count("\n") == 1


def test_a_missing_configuration_ends_with_78(conf: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--check-config", "-c", f"{conf}.no"]) == 78
    assert "there is no such file; name another with -c" in capsys.readouterr().err


def test_a_certificate_and_its_key_are_tried(
    conf: Path, certificates: Certificates, capsys: pytest.CaptureFixture[str]
) -> None:
    good, other = certificates.good, certificates.expired
    conf.write_text(f"sslCert = {good.certificate}\nsslKey = {good.key}\nlisten = *:465 tls\n")
    assert main(["--check-config", "-c", str(conf), "-s", "-b", "465"]) == 0
    assert capsys.readouterr() == (f"{conf}: ok\n", "")
    conf.write_text(f"sslCert = {good.certificate}\nsslKey = {other.key}\n")
    assert main(["--check-config", "-c", str(conf)]) == 78
    assert f"sendooway: {conf}:1: sslCert: cannot use certificate and key" in capsys.readouterr().err


def test_tls_at_once_without_certificate_is_found_by_the_check(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--check-config", "-c", "/dev/null", "-s"]) == 64
    assert "-s (TLS at once) needs sslCert in /dev/null" in capsys.readouterr().err


@pytest.mark.parametrize(("options", "warned"), [(["-b", "587"], True), (["-S", "-b", "587"], False), (["-i"], False)])
def test_a_port_where_nobody_could_log_in_is_warned_about(
    options: list[str], warned: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--check-config", "-c", "/dev/null", *options]) == 0
    out, err = capsys.readouterr()
    assert out == "/dev/null: ok\n"
    assert err.startswith("warning: -b 587: without sslCert nobody can log in here over a network") == warned


def test_the_package_can_be_run_as_a_module() -> None:
    run = subprocess.run(
        [sys.executable, "-m", "sendooway", "--check-config", "-c", "/dev/null"], capture_output=True, check=False
    )
    assert (run.returncode, run.stdout, run.stderr) == (0, b"/dev/null: ok\n", b"")


def test_the_answers_that_serve_nobody_load_neither_network_nor_daemon() -> None:
    program = "import sys; from sendooway.cli import main; main(['-h']); print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, text=True)
    assert {"ssl", "socket", "argparse", "typing", "sendooway.daemon"}.isdisjoint(run.stdout.split())


@pytest.mark.parametrize("name", commands.NAMES)
def test_a_command_has_its_own_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([name, "--help"]) == 0
    assert capsys.readouterr() == (commands.load(name).HELP, "")


def test_what_is_neither_option_nor_command_ends_with_64(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["chekc"]) == 64
    assert "'chekc' is no command; there are accounts, explain, check, discover" in capsys.readouterr().err


def in_a_shell(words: str, redirection: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["/bin/bash", "-c", f"{sys.executable} -m sendooway {words} {redirection}"],
        capture_output=True,
        text=True,
        check=False,
        # With PYTHONUNBUFFERED, Python notices earlier.
        env={"PATH": os.environ["PATH"]},
    )


ANSWERS = [
    "--help",
    "--version",
    "--print-config",
    "--check-config -c /dev/null",
    "accounts --help",
    "explain --json x@y",
]


@pytest.mark.parametrize("words", ANSWERS)
def test_an_answer_that_cannot_be_written_ends_with_74_and_one_line(words: str) -> None:
    done = in_a_shell(words, "> /dev/full")
    assert done.stderr == "sendooway: cannot write the answer: No space left on device\n"
    assert done.returncode == 74


@pytest.mark.parametrize("words", ANSWERS)
def test_nobody_needs_to_read_an_answer(words: str) -> None:
    done = in_a_shell(words, "| true; exit ${PIPESTATUS[0]}")
    assert done.stderr == ""
    assert done.returncode in (0, 1, 128 + 13)  # whether true ends first is a matter of chance


@pytest.mark.parametrize("words", ANSWERS)
def test_with_standard_output_closed_the_status_is_the_answer(words: str) -> None:
    silent, closed = in_a_shell(words, "> /dev/null"), in_a_shell(words, ">&-")
    assert (closed.stderr, closed.returncode) == (silent.stderr, silent.returncode)


def test_with_standard_error_closed_what_is_wrong_is_not_told_to_standard_output() -> None:
    assert in_a_shell("--no-such", "2>&-").stdout == ""


@pytest.mark.slow
def test_a_reader_that_stops_reading_is_no_trouble(tmp_path: Path) -> None:
    rc = tmp_path / "rc"
    rc.touch(0o600)
    rc.write_text("".join(f"poll host{number}.test user me password x\n" for number in range(5000)))
    with subprocess.Popen(
        [sys.executable, "-m", "sendooway", "accounts", "--json", f"--source=fetchmail:{rc}"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        # With PYTHONUNBUFFERED, Python does not notice.
        env={"PATH": os.environ["PATH"]},
    ) as run:
        assert run.stdout
        assert run.stderr
        run.stdout.read(10)
        run.stdout.close()
        assert run.stderr.read() == b""
        assert run.wait() == 128 + 13


def test_a_server_knows_nothing_of_commands() -> None:
    program = "import sys; from sendooway import daemon, proxy, session; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, text=True)
    loaded = run.stdout.split()
    assert [name for name in loaded if name.startswith(("sendooway.commands", "sendooway.discovery", "dns"))] == []
