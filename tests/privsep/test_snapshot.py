"""The configuration reaches those who need it, its passwords only those who may have them."""

import errno
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from shortage import few_descriptors

import sendooway
from sendooway.config import Backend, default_mappings
from sendooway.log import Log
from sendooway.privsep import snapshot
from sendooway.privsep.fingerprint import KEY_OCTETS
from sendooway.privsep.snapshot import SnapshotError, take
from sendooway.secret import Secret

CONFIGURATION = """\
localname = mail.moon.test  # a comment
authBackend = none
smarthostMapping = direct:*@moon.test mx.moon.test 587 alice s3cret tls
smarthostMapping = getmail:%h/.getmail/getmailrc
"""


def write(folder: Path, text: str, mode: int = 0o600) -> str:
    path = folder / "sendooway.conf"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    path.chmod(mode)
    return str(path)


def test_the_configuration_comes_with_its_mappings_one_step_away(tmp_path: Path, log: Log) -> None:
    taken = take(write(tmp_path, CONFIGURATION), log)
    assert taken.configuration.user_settings.localname == "mail.moon.test"
    assert taken.configuration.auth_backend is Backend.NONE
    direct, getmail = taken.secrets().mappings
    assert direct.argument.octets == b"*@moon.test mx.moon.test 587 alice s3cret tls"
    assert getmail.source == "getmail"
    assert str(direct.origin) == f"{tmp_path}/sendooway.conf:3"
    taken.close()


def test_each_snapshot_has_a_key_of_its_own(tmp_path: Path, log: Log) -> None:
    path = write(tmp_path, CONFIGURATION)
    one, other = take(path, log), take(path, log)
    assert len(one.key) == len(other.key) == KEY_OCTETS
    assert one.key != other.key
    assert one.secrets() == other.secrets()
    for taken in (one, other):
        taken.close()


CREDENTIAL = "smarthostMapping = direct:* mx.moon.test 587 alice - tls,passwordFrom=credential:"


def write_credential(folder: Path, name: str, octets: bytes) -> None:
    (folder / "credentials").mkdir(exist_ok=True)
    (folder / "credentials" / name).write_bytes(octets)


def test_the_credentials_that_its_mappings_name_come_with_it(
    tmp_path: Path, log: Log, log_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path / "credentials"))
    write_credential(tmp_path, "moon", b"s3cret\xe4\r\nmore")
    write_credential(tmp_path, "key", b"of something else")
    taken = take(write(tmp_path, f"{CREDENTIAL}moon\n{CREDENTIAL}moon\n{CONFIGURATION}"), log)
    assert taken.secrets().credentials == {"moon": Secret(b"s3cret\xe4")}
    assert "no-credential" not in log_file.read_text()
    taken.close()


@pytest.mark.parametrize(
    ("octets", "reason"),
    [
        (None, "No such file or directory"),
        (b"", "first line must be the password"),
        (b"a\0b", "first line must be the password"),
        (b"x\n" + 4095 * b"y", "at most 4096 octets"),
    ],
)
def test_a_credential_that_is_none_is_told_and_the_rest_serves(
    tmp_path: Path, log: Log, log_file: Path, monkeypatch: pytest.MonkeyPatch, octets: bytes | None, reason: str
) -> None:
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path / "credentials"))
    write_credential(tmp_path, "moon", b"s3cret")
    if octets is not None:
        write_credential(tmp_path, "sun", octets)
    taken = take(write(tmp_path, f"{CREDENTIAL}sun\n{CREDENTIAL}moon\n"), log)
    assert taken.secrets().credentials == {"moon": Secret(b"s3cret")}
    assert re.search(f'no-credential name=sun reason=".*{reason}', log_file.read_text())
    taken.close()


def test_without_systemd_there_are_no_credentials(
    tmp_path: Path, log: Log, log_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    taken = take(write(tmp_path, f"{CREDENTIAL}moon\n"), log)
    assert taken.secrets().credentials == {}
    assert "LoadCredential=" in log_file.read_text()
    taken.close()


# Looks for a password, given backwards, in its own memory: before and after it has asked for the mappings.
SEARCH = """
import sys
from sendooway.log import open_log
from sendooway.privsep.snapshot import take

def found(backwards):
    with open("/proc/self/maps") as maps, open("/proc/self/mem", "rb", 0) as memory:
        for line in maps:
            if " rw" in line and "[v" not in line:
                begin, end = (int(number, 16) for number in line.split()[0].split("-"))
                memory.seek(begin)
                if backwards in memory.read(end - begin)[::-1]:
                    return True
    return False

taken = take(sys.argv[1], open_log("&2"))
backwards = sys.argv[2].encode()
before = found(backwards)
secrets = taken.secrets()
print(before, found(backwards))
"""


# The name of the test is in the environment of its processes.
@pytest.mark.parametrize("password", ["s3cret tls", "of the-service"], ids=["mapping", "credential"])
def test_passwords_never_were_in_the_process_that_takes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, password: str
) -> None:
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path / "credentials"))
    write_credential(tmp_path, "moon", b"of the-service")
    path = write(tmp_path, f"{CONFIGURATION}{CREDENTIAL}moon\n")
    done = subprocess.run(
        [sys.executable, "-c", SEARCH, path, password[::-1]],
        cwd=Path(sendooway.__file__).parents[1],
        capture_output=True,
        text=True,
        check=True,
    )
    # That the second search finds it shows that the first one would have.
    assert done.stdout == "False True\n"


def test_nobody_can_change_it_afterwards(tmp_path: Path, log: Log) -> None:
    taken = take(write(tmp_path, CONFIGURATION), log)
    with pytest.raises(PermissionError):
        os.pwrite(taken.memory, b"x", 0)
    with pytest.raises(PermissionError):
        os.ftruncate(taken.memory, 0)
    taken.close()


def test_defaults_serve_where_there_is_no_file(log: Log) -> None:
    taken = take("/dev/null", log)
    assert taken.secrets().mappings == default_mappings()
    assert taken.configuration.user_settings.localname == os.uname().nodename
    taken.close()


@pytest.mark.parametrize(
    ("text", "cores", "workers"), [("", 1, 1), ("", 3, 3), ("", 100, 8), ("workers = 5", 3, 5), ("workers = 64", 1, 64)]
)
def test_there_is_a_worker_for_each_core_unless_it_says_otherwise(
    text: str, cores: int, workers: int, tmp_path: Path, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)))
    taken = take(write(tmp_path, text), log)
    assert taken.configuration.workers == workers
    taken.close()


def test_octets_that_are_not_utf_8_survive(tmp_path: Path, log: Log) -> None:
    taken = take(write(tmp_path, "smarthostMapping = direct:* mx 25 u p\udcff\n"), log)
    assert taken.secrets().mappings[0].argument.octets.endswith(b"p\xff")
    taken.close()


@pytest.mark.parametrize(
    ("text", "mode", "message"),
    [
        ("timeout = soon\n", 0o600, "sendooway.conf:1: timeout: "),
        ("\nspeed = 9\n", 0o600, "sendooway.conf:2"),
        ("timeout = 5\n", 0o622, "go-w"),
    ],
)
def test_an_error_arrives_as_its_message_and_leaves_nothing_open(
    tmp_path: Path, log: Log, text: str, mode: int, message: str
) -> None:
    before = os.listdir("/proc/self/fd")
    with pytest.raises(SnapshotError, match=message):
        take(write(tmp_path, text, mode), log)
    assert os.listdir("/proc/self/fd") == before


def test_warnings_are_logged_once(tmp_path: Path, log: Log, log_file: Path) -> None:
    take(write(tmp_path, CONFIGURATION, 0o644), log).close()
    lines = [line for line in log_file.read_text().splitlines() if " configuration " in line]
    assert len(lines) == 1
    assert "chmod 600" in lines[0]
    assert "s3cret" not in lines[0]


def test_a_file_that_never_answers_is_given_up(tmp_path: Path, log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    monkeypatch.setattr(snapshot, "TAKE_SECONDS", 0.05)
    with pytest.raises(SnapshotError, match="took longer"):
        take(str(fifo), log)


def test_a_reader_that_dies_is_noticed(tmp_path: Path, log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path, CONFIGURATION)
    # Sealed from the beginning, the memory cannot take the text.
    monkeypatch.setattr(snapshot, "allocate", lambda: os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC))
    with pytest.raises(SnapshotError, match="ended"):
        take(path, log)


def test_gssapi_is_offered_only_where_there_is_a_keytab_and_the_log_says_what_is_missing(
    tmp_path: Path, log: Log, log_file: Path
) -> None:
    taken = take(write(tmp_path, "krb5Keytab = /nonexistent/keytab\n"), log)
    assert taken.configuration.auth_mechanisms == ("PLAIN", "LOGIN")
    taken.close()
    (line,) = (line for line in log_file.read_text().splitlines() if " no-gssapi " in line)
    assert "gssapi" in line.partition("reason=")[2] or "/nonexistent/keytab" in line


def test_where_gssapi_is_not_wanted_nothing_is_missing(tmp_path: Path, log: Log, log_file: Path) -> None:
    taken = take(write(tmp_path, "authMechanisms = LOGIN\n"), log)
    assert taken.configuration.auth_mechanisms == ("LOGIN",)
    taken.close()
    assert not log_file.exists() or "no-gssapi" not in log_file.read_text()


def test_without_room_for_a_process_nothing_stays_open(
    tmp_path: Path, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> int:
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    monkeypatch.setattr(os, "fork", fail)
    before = os.listdir("/proc/self/fd")
    with pytest.raises(BlockingIOError):
        take(write(tmp_path, CONFIGURATION), log)
    assert os.listdir("/proc/self/fd") == before


def test_without_room_for_a_pipe_nothing_stays_open(tmp_path: Path, log: Log) -> None:
    path = write(tmp_path, CONFIGURATION)
    before = os.listdir("/proc/self/fd")
    for room in (0, 1, 2):
        with few_descriptors(room), pytest.raises(OSError, match="Too many open files"):
            take(path, log)
    assert os.listdir("/proc/self/fd") == before
