"""The greeting that comes before the rest of the program."""

import os
import pwd
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from servers.program import ROOT

from sendooway import greeting
from sendooway.config import ConfigurationError
from sendooway.config.keywords import parse
from sendooway.smtp.server import Policy, Server

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root has rights to give up")

# Keywords that matter and one that does not, spelt as people do, with good, odd and bad values.
assignments = st.tuples(
    st.sampled_from(
        ["localname", "LocalName", "runAs", "RUNAS", "workers", "proxyTrust", "#localname", "\tlocalname", ""]
    ),
    st.sampled_from(["=", " = ", "\t=", "", "=="]),
    st.sampled_from(
        ["", "mail.example.org", "nobody", "2", "a b", "192.0.2.1", "[192.0.2.1]", "x # runAs = y", "ö", "a\x0bb", "_"]
    ),
    st.sampled_from(["", "\r", "  "]),
).map("".join)


@given(st.lists(assignments, max_size=5).map("\n".join), st.sampled_from(["", "\ufeff"]))
def test_what_it_reads_is_what_the_configuration_says(text: str, mark: str) -> None:
    try:
        configuration = parse(mark + text, "conf", "default.test").configuration
    except ConfigurationError:
        return  # whatever was said, 421 comes next
    try:
        localname, run_as = greeting.scan(mark + text)
    except greeting.Unclear:
        literal = configuration.user_settings.localname.startswith("[")
        assert literal or configuration.proxy_trust, "only literals are left to the session, and balancers"
    else:
        assert not configuration.proxy_trust
        assert (localname or "default.test", run_as) == (configuration.user_settings.localname, configuration.run_as)


@pytest.mark.parametrize("value", ["a b", "a\tb", "mail\x00", "[192.0.2.1]", "é", "x" * 256])
def test_a_name_that_looks_wrong_is_left_to_those_who_can_say_what_is_wrong(value: str) -> None:
    with pytest.raises(greeting.Unclear):
        greeting.scan(f"localname = {value}\n")


def test_it_is_what_the_session_would_say() -> None:
    server = Server(Policy("mail.test", True, True, (), True, 0, most_errors=20, most_failed_logins=5))
    assert server.greeting().text == (greeting.line("mail.test"),)


GREET = "import sys; from sendooway import greeting; sys.exit(not greeting.begin(sys.argv[1:]).said())"


def greet(*arguments: str | Path, before: Callable[[], object] | None = None) -> tuple[bytes, int | None]:
    """What a client of a super-server reads, and the uid of the process that wrote it; nothing where none greets.

    `before` is what the super-server does before it becomes the program.
    """
    client, connection = socket.socketpair()
    with client, connection:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        done = subprocess.run(
            [sys.executable, "-c", GREET, *arguments],
            stdin=connection.fileno(),
            stdout=connection.fileno(),
            stderr=subprocess.PIPE,
            cwd=ROOT,
            timeout=60,
            preexec_fn=before,
        )
        assert done.stderr == b""
        client.setblocking(False)
        try:
            octets, ancillary, _, _ = client.recvmsg(1000, 1000)
        except BlockingIOError:
            assert done.returncode == 1
            return b"", None
        assert done.returncode == 0
        ((_, _, credentials),) = ancillary
        return octets, struct.unpack("3i", credentials)[1]


@pytest.fixture
def conf(tmp_path: Path) -> Path:
    path = tmp_path / "conf"
    path.write_text("localname = mail.test\nrunAs = nobody\n")
    return path


@pytest.mark.parametrize("more", [["-i"], ["--inetd"], ["-S"], ["-i", "--nossl", "-l", "&2"], ["--log", "-b"], []])
def test_a_client_of_a_super_server_is_greeted_by_a_process_without_rights(conf: Path, more: list[str]) -> None:
    octets, uid = greet("-c", conf, *more)
    assert octets == b"220 mail.test ESMTP Sendooway\r\n"
    assert uid == (pwd.getpwnam("nobody").pw_uid if os.geteuid() == 0 else os.geteuid())


def test_a_super_server_that_ignores_its_children_changes_nothing(conf: Path) -> None:
    octets, _ = greet("-c", conf, before=lambda: signal.signal(signal.SIGCHLD, signal.SIG_IGN))
    assert octets == b"220 mail.test ESMTP Sendooway\r\n"


def test_the_default_name_is_the_host_s() -> None:
    assert greet("-c", "/dev/null")[0] == f"220 {os.uname().nodename} ESMTP Sendooway\r\n".encode()


@pytest.mark.parametrize(
    "more",
    [["-s"], ["--ssl"], ["-b", "25"], ["-V"], ["--check-config"], ["-iS"], ["--conf", "x"], ["accounts"], ["-c"]],
)
def test_other_arguments_are_left_to_the_program(conf: Path, more: list[str]) -> None:
    assert greet("-c", conf, *more) == (b"", None)


@pytest.mark.parametrize("text", ["localname = a b\n", pytest.param("runAs = no-such-user\n", marks=needs_root)])
def test_a_configuration_that_looks_wrong_is_left_to_the_program(conf: Path, text: str) -> None:
    conf.write_text(text)
    assert greet("-c", conf) == (b"", None)


def test_without_a_configuration_file_nobody_is_greeted(tmp_path: Path) -> None:
    assert greet("-c", tmp_path / "none") == (b"", None)


def test_a_fifo_in_place_of_the_configuration_does_not_stop_the_start(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "conf")
    greet("-c", tmp_path / "conf")


def test_where_standard_input_is_no_connection_nobody_is_greeted(conf: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", GREET, "-c", conf], input=b"", cwd=ROOT, capture_output=True, timeout=60
    )
    assert (done.returncode, done.stdout, done.stderr) == (1, b"", b"")


def test_closed_standard_input_is_no_connection(conf: Path) -> None:
    done = subprocess.run(
        ["/bin/sh", "-c", 'exec "$@" <&-', "sh", sys.executable, "-c", GREET, "-c", conf],
        cwd=ROOT,
        capture_output=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout, done.stderr) == (1, b"", b"")
