"""The log: what a line looks like, and what happens when it cannot be written."""

import os
import re
import socket
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sendooway.log import (
    MAX_LINE_OCTETS,
    MAX_VALUE_OCTETS,
    Log,
    describe,
    format_line,
    format_value,
    open_log,
    was_rotated,
)
from sendooway.secret import Secret

# Values


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ("alice@example.org", "alice@example.org"),
        ("[2001:db8::1]:25", '"[2001:db8::1]:25"'),
        ("2001:db8::1", "2001:db8::1"),
        ("PLAIN", "PLAIN"),
        ("a+b/c-d_e.f", "a+b/c-d_e.f"),
        ("", '""'),
        ("two words", '"two words"'),
        ("a=b", '"a=b"'),
        ('say "x"', '"say \\x22x\\x22"'),
        ("back\\slash", '"back\\x5Cslash"'),
        ("a\r\nb\tc\0", '"a\\x0D\\x0Ab\\x09c\\x00"'),
        ("\x1b[2J\x7f", '"\\x1B[2J\\x7F"'),
        ("\x85\x9b", '"\\xC2\\x85\\xC2\\x9B"'),
        ("a\u2028b\u2029", '"a\\xE2\\x80\\xA8b\\xE2\\x80\\xA9"'),
        ("\u202eabc", '"\\xE2\\x80\\xAEabc"'),
        ("größe 日本", '"größe 日本"'),
        ("caf\udce9", '"caf\\xE9"'),
        ("\ud800", '"\\xED\\xA0\\x80"'),
        (b"caf\xe9 \xc3\xa9", '"caf\\xE9 é"'),
        (b"", '""'),
        (0, "0"),
        (-17, "-17"),
        (1.0, "1.000"),
        (0.12345, "0.123"),
        (True, "yes"),
        (False, "no"),
        (Secret(b"hunter2"), '"Secret()"'),
        (("a", Secret(b"hunter2")), "\"('a', Secret())\""),
        ("a" * 200, "a" * 200),
        ("a" * 201, '"' + "a" * 195 + '"...'),
        ("a " * 99, '"' + "a " * 99 + '"'),
        ("a " * 99 + "b", '"' + "a " * 97 + 'a"...'),
        ("é" * 99, '"' + "é" * 99 + '"'),
        ("é" * 100, '"' + "é" * 97 + '"...'),
        ("\0" * 49, '"' + "\\x00" * 49 + '"'),
        ("\0" * 50, '"' + "\\x00" * 48 + '"...'),
    ],
)
def test_a_value_is_written_so_that_it_can_be_told_from_its_neighbours(value: object, written: str) -> None:
    assert format_value(value) == written


def value_of(written: str) -> bytes:
    """What a reader of the log makes of a value that is not cut."""
    if not written.startswith('"'):
        return written.encode()
    return re.sub(rb"\\x(..)", lambda octet: bytes([int(octet[1], 16)]), written[1:-1].encode())


@given(st.binary(max_size=49) | st.text(max_size=12).map(str.encode))  # short enough not to be cut
def test_octets_can_be_read_back(octets: bytes) -> None:
    assert value_of(format_value(octets)) == octets


@given(st.text(st.characters(codec=None), max_size=400) | st.binary(max_size=400) | st.integers() | st.floats())
def test_a_value_is_printable_short_and_one_word_or_quoted(value: object) -> None:
    written = format_value(value)
    assert written.isprintable()
    assert len(written.encode()) <= MAX_VALUE_OCTETS
    assert re.fullmatch(r'[A-Za-z0-9._:@/+-]+|"[^"]*"(\.\.\.)?', written)


# Lines


def test_fields_stand_in_the_order_given_and_none_is_left_out() -> None:
    assert format_line("h", "login", {"b": 1, "a": None, "user": "al ice"}) == b'h: login b=1 user="al ice"\n'


def test_a_line_never_outgrows_what_a_pipe_takes_at_once() -> None:
    line = format_line("h", "event", {f"f{number}": "é" * 500 for number in range(100)} | {"last": 1})
    assert len(line) <= MAX_LINE_OCTETS
    assert re.search(rb'"\.\.\. last=1\n$', line)


# Files


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "log"


@pytest.fixture
def log(path: Path) -> Iterator[Log]:
    opened = open_log(str(path))
    yield opened
    opened.close()


def test_a_line_has_time_process_name_and_fields(log: Log, path: Path) -> None:
    before = datetime.now(UTC)
    log.event("login", user="alice", tls=True)
    log.warning("auth-failure", rip="192.0.2.7", reason="credentials")
    log.error("broken", name="x")
    lines = path.read_text().splitlines()
    stamps = [line.split(" ", 1)[0] for line in lines]
    assert [line.split(" ", 1)[1] for line in lines] == [
        f"sendooway[{os.getpid()}]: login user=alice tls=yes",
        f"sendooway[{os.getpid()}]: auth-failure rip=192.0.2.7 reason=credentials",
        f"sendooway[{os.getpid()}]: broken name=x",
    ]
    for stamp in stamps:
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00", stamp)
        assert abs((datetime.fromisoformat(stamp) - before).total_seconds()) < 60


def test_bound_fields_come_first(log: Log, path: Path) -> None:
    bound = log.bind(rip="192.0.2.7").bind(session="a1")
    bound.event("message", code=250, rip="192.0.2.8")
    log.event("stop")
    first, second = path.read_text().splitlines()
    assert first.endswith("message rip=192.0.2.8 session=a1 code=250")
    assert second.endswith("]: stop")


def test_a_new_file_is_not_for_all_to_read_and_an_old_one_is_appended_to(path: Path) -> None:
    umask = os.umask(0o022)
    try:
        for name in ("one", "two"):
            log = open_log(str(path))
            log.event(name)
            log.close()
    finally:
        os.umask(umask)
    assert [line.split(": ")[1] for line in path.read_text().splitlines()] == ["one", "two"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_a_file_that_was_rotated_away_is_noticed(path: Path, log: Log) -> None:
    assert not was_rotated(log, str(path))
    assert not was_rotated(log, None)
    assert not was_rotated(log, "&2")
    assert was_rotated(log, f"{path}/log")  # its folder has been replaced
    path.rename(path.with_suffix(".1"))
    assert was_rotated(log, str(path))
    path.touch()
    assert was_rotated(log, str(path))


def test_a_file_that_cannot_be_opened_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="Is a directory"):
        open_log(str(tmp_path))


def test_the_descriptor_that_must_stay_open_is_known_and_not_inherited(log: Log) -> None:
    (descriptor,) = log.descriptors()
    assert not os.get_inheritable(descriptor)
    assert log.bind(session=1).descriptors() == (descriptor,)


def test_what_is_logged_after_the_end_goes_nowhere_else(path: Path) -> None:
    log = open_log(str(path))
    (descriptor,) = log.descriptors()
    log.close()
    other = os.open(path.parent / "other", os.O_WRONLY | os.O_CREAT)
    try:
        assert other == descriptor  # the number is used again
        log.event("late")
        assert (path.parent / "other").read_bytes() == b""
    finally:
        os.close(other)


def test_lines_of_many_threads_and_processes_are_not_mixed(log: Log, path: Path) -> None:
    def write(writer: str) -> None:
        for number in range(100):
            log.event("line", writer=writer, number=number, text="x" * 150)

    child = os.fork()
    if child == 0:
        write("child")
        os._exit(0)
    threads = [threading.Thread(target=write, args=(f"thread{number}",)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    os.waitpid(child, 0)
    lines = path.read_text().splitlines()
    assert len(lines) == 500
    assert all(line.endswith("x" * 150) for line in lines)
    assert {line.split("[")[1].split("]")[0] for line in lines} == {str(os.getpid()), str(child)}


def test_a_full_disk_costs_lines_but_raises_nothing() -> None:
    log = open_log("/dev/full")
    log.event("lost")
    log.close()


def test_after_half_a_line_the_next_one_begins_a_new_line(path: Path) -> None:
    # A limit on the size of files cuts a write short as a full disk does.
    child = os.fork()
    if child == 0:
        status = 1
        try:
            import resource
            import signal

            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            log = open_log(str(path))
            resource.setrlimit(resource.RLIMIT_FSIZE, (30, resource.RLIM_INFINITY))
            log.event("torn")
            log.event("lost")
            resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
            log.event("whole")
            log.event("again")
            status = 0
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    torn, whole, again = path.read_text().splitlines()
    assert len(torn) == 30
    assert whole.endswith("]: whole lost=2")
    assert again.endswith("]: again")


# Standard error


@contextmanager
def standard_error(descriptor: int) -> Iterator[None]:
    """Not a fixture: between set-up and test, pytest gives standard error back to itself."""
    saved = os.dup(2)
    os.dup2(descriptor, 2)
    os.close(descriptor)
    try:
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)


def drain(reader: int) -> bytes:
    octets = b""
    with open(reader, "rb", buffering=0, closefd=False) as pipe:
        os.set_blocking(reader, False)
        while part := pipe.read(65536):
            octets += part
    return octets


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """A reading and a writing end; the writing end is the test's to close."""
    reader, writer = os.pipe()
    yield reader, writer
    os.close(reader)


def test_standard_error_gets_the_lines(pipe: tuple[int, int]) -> None:
    with standard_error(pipe[1]):
        log = open_log("&2")
        log.event("hello")
        log.close()
        os.fstat(2)  # still open
    assert drain(pipe[0]).endswith(b"]: hello\n")


def test_a_file_as_standard_error_is_written_to_where_others_have_come_to(tmp_path: Path) -> None:
    path = tmp_path / "output"
    with standard_error(os.open(path, os.O_WRONLY | os.O_CREAT)):
        os.write(2, b"before\n")
        log = open_log("&2")
        log.event("hello")
        log.close()
        os.write(2, b"behind\n")
    before, hello, behind = path.read_bytes().splitlines()
    assert (before, behind) == (b"before", b"behind")
    assert hello.endswith(b"]: hello")


def test_a_full_pipe_costs_lines_but_no_time_and_they_are_counted(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    with standard_error(writer):
        log = open_log("&2")
        for number in range(2000):
            log.event("line", number=number, text="x" * 150)
        assert os.get_blocking(2)  # as the others who write there expect it
        through = drain(reader).count(b"\n")
        assert 0 < through < 2000
        log.event("next")
        log.event("after")
        log.close()
    first, second = drain(reader).splitlines()
    assert first.endswith(b"]: next lost=%d" % (2000 - through))
    assert second.endswith(b"]: after")


def test_a_closed_pipe_costs_lines_but_raises_nothing() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with standard_error(writer):
        log = open_log("&2")
        log.event("lost")
        log.close()


def test_standard_error_may_be_a_socket_that_is_full() -> None:
    reader, writer = socket.socketpair()
    with reader, standard_error(writer.detach()):
        log = open_log("&2")
        log.event("hello")
        assert reader.recv(4096).endswith(b"]: hello\n")
        for _ in range(5000):
            log.event("line", text="x" * 190)
        assert os.get_blocking(2)
        log.close()


# Syslog


def syslog_at(path: Path) -> socket.socket:
    server = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    server.bind(str(path))
    server.settimeout(5)
    return server


def test_syslog_gets_datagrams_with_priority_and_without_line_end(tmp_path: Path) -> None:
    with syslog_at(tmp_path / "s") as server:
        log = open_log(None, syslog=str(tmp_path / "s"))
        log.event("login", user="alice")
        log.warning("auth-failure", rip="192.0.2.7")
        log.error("broken")
        pid = os.getpid()
        assert [server.recv(4096).decode() for _ in range(3)] == [
            f"<22>sendooway[{pid}]: login user=alice",
            f"<20>sendooway[{pid}]: auth-failure rip=192.0.2.7",
            f"<19>sendooway[{pid}]: broken",
        ]
        assert len(log.descriptors()) == 1
        log.close()
        log.event("late")


def test_a_syslog_that_begins_later_is_found_and_told_what_was_lost(tmp_path: Path) -> None:
    log = open_log(None, syslog=str(tmp_path / "s"))
    log.event("one")
    log.event("two")
    with syslog_at(tmp_path / "s") as server:
        log.event("three")
        assert server.recv(4096).endswith(b"]: three lost=2")
    log.close()


def test_a_syslog_that_is_started_anew_is_found_again(tmp_path: Path) -> None:
    with syslog_at(tmp_path / "s") as server:
        log = open_log(None, syslog=str(tmp_path / "s"))
        log.event("one")
        assert server.recv(4096).endswith(b"]: one")
    log.event("between")
    (tmp_path / "s").unlink()
    descriptors = log.descriptors()
    with syslog_at(tmp_path / "s") as server:
        log.event("two")
        assert server.recv(4096).endswith(b"]: two lost=1")
    assert log.descriptors() == descriptors
    log.close()


def test_a_syslog_that_does_not_read_costs_lines_but_no_time(tmp_path: Path) -> None:
    with syslog_at(tmp_path / "s") as server:
        log = open_log(None, syslog=str(tmp_path / "s"))
        for _ in range(1000):
            log.event("line")
        server.setblocking(False)
        received = 0
        while True:
            try:
                server.recv(4096)
            except BlockingIOError:
                break
            received += 1
        assert 0 < received < 1000
        log.event("next")
        assert server.recv(4096).endswith(b"]: next lost=%d" % (1000 - received))
        log.close()


def test_a_child_does_not_report_what_its_parent_lost(tmp_path: Path) -> None:
    log = open_log(None, syslog=str(tmp_path / "s"))
    log.event("lost")
    with syslog_at(tmp_path / "s") as server:
        child = os.fork()
        if child == 0:
            log.event("child")
            os._exit(0)
        os.waitpid(child, 0)
        assert server.recv(4096) == f"<22>sendooway[{child}]: child".encode()
        log.event("parent")
        assert server.recv(4096).endswith(b"]: parent lost=1")
    log.close()


def test_an_error_is_described_by_its_kind_and_places_but_not_by_its_text() -> None:
    def fail() -> None:
        raise ValueError("a password")

    try:
        fail()
    except ValueError as error:
        described = describe(error)
    assert described.startswith("ValueError test_log.py:")
    assert described.count("test_log.py:") == 2
    assert "password" not in described
