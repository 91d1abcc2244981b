"""The configuration reaches those who need it, its passwords only those who may have them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import sendooway
from sendooway.config import Backend
from sendooway.log import Log
from sendooway.privsep import snapshot
from sendooway.privsep.snapshot import SnapshotError, take

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
    direct, getmail = taken.mappings()
    assert direct.argument.octets == b"*@moon.test mx.moon.test 587 alice s3cret tls"
    assert getmail.source == "getmail"
    assert taken.mappings() == (direct, getmail)
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
mappings = taken.mappings()
print(before, found(backwards))
"""


def test_passwords_never_were_in_the_process_that_takes_it(tmp_path: Path) -> None:
    path = write(tmp_path, CONFIGURATION)
    done = subprocess.run(
        [sys.executable, "-c", SEARCH, path, "s3cret tls"[::-1]],
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
    assert [mapping.source for mapping in taken.mappings()] == ["getmail", "fetchmail"]
    assert taken.configuration.user_settings.localname == os.uname().nodename
    taken.close()


def test_octets_that_are_not_utf_8_survive(tmp_path: Path, log: Log) -> None:
    taken = take(write(tmp_path, "smarthostMapping = direct:* mx 25 u p\udcff\n"), log)
    assert taken.mappings()[0].argument.octets.endswith(b"p\xff")
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
