"""Where passwords come from: files, netrc, credentials and commands, really read and run by a process of this user."""

import os
import pwd
from pathlib import Path

import pytest

from sendooway.accounts.account import FromCommand, FromCredential, FromFile, FromNetrc, Password
from sendooway.accounts.user_file import UserFiles
from sendooway.auth.identity import Identity
from sendooway.log import Log
from sendooway.privsep import password
from sendooway.privsep.password import PasswordError, Passwords
from sendooway.secret import Secret


@pytest.fixture
def me(tmp_path: Path) -> Identity:
    return Identity("alice", os.getuid(), os.getgid(), str(tmp_path))


@pytest.fixture
def passwords(me: Identity, log: Log) -> Passwords:
    return Passwords(me, UserFiles(me.uid).read, log)


def failure(passwords: Passwords, source: Password) -> str:
    with pytest.raises(PasswordError) as raised:
        passwords.fetch(source)
    return str(raised.value)


def write(path: Path, octets: bytes, mode: int = 0o600) -> None:
    path.write_bytes(octets)
    path.chmod(mode)


def test_a_literal_password_is_itself(passwords: Passwords) -> None:
    assert passwords.fetch(Secret(b"s3cret")) == Secret(b"s3cret")
    assert not passwords.is_kept(Secret(b"s3cret"))


@pytest.mark.parametrize(
    ("octets", "expected"),
    [
        (b"s3cret\n", b"s3cret"),
        (b"s3cret\r\nuser: alice\r\n", b"s3cret"),
        (b" s3 cret", b" s3 cret"),
        (b"se\xe4cret\xff\n", b"se\xe4cret\xff"),
    ],
)
def test_a_file_s_first_line_is_the_password(
    passwords: Passwords, tmp_path: Path, octets: bytes, expected: bytes
) -> None:
    write(tmp_path / "secret", octets)
    assert passwords.fetch(FromFile(f"{tmp_path}/secret")) == Secret(expected)
    assert passwords.fetch(FromFile("~/secret")) == Secret(expected)


@pytest.mark.parametrize("octets", [b"", b"\n", b"\r\ns3cret", b"s3\0cret\n"])
def test_a_first_line_that_is_none_is_an_error(passwords: Passwords, tmp_path: Path, octets: bytes) -> None:
    write(tmp_path / "secret", octets)
    assert failure(passwords, FromFile("~/secret")) == f"{tmp_path}/secret: the first line must be the password"


def test_a_file_that_could_be_anybody_s_is_an_error(passwords: Passwords, tmp_path: Path) -> None:
    write(tmp_path / "secret", b"s3cret\n", 0o620)
    assert "others may write it" in failure(passwords, FromFile("~/secret"))
    os.mkfifo(tmp_path / "fifo")
    assert "must be a regular file" in failure(passwords, FromFile("~/fifo"))
    assert "no such file" in failure(passwords, FromFile("~/no"))


def test_reading_has_a_limit(passwords: Passwords, me: Identity, log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    reading, writing = os.pipe()
    monkeypatch.setattr(password, "READ_SECONDS", 0.02)
    slow = Passwords(me, lambda path: os.read(reading, 1).decode(), log)
    assert failure(slow, FromFile("~/secret")) == "reading the files took longer than 0.02 seconds"
    os.close(reading)
    os.close(writing)


def test_netrc_gives_the_password_of_the_login_at_the_first_host_it_knows(passwords: Passwords, tmp_path: Path) -> None:
    source = FromNetrc(("mx.moon.test", "moon.test"), "alice")
    assert failure(passwords, source) == f"{tmp_path}/.netrc: no such file, and the password should be in it"
    write(tmp_path / ".netrc", b"machine moon.test login bob password 1\nmachine moon.test login alice password 2\n")
    assert passwords.fetch(source) == Secret(b"2")
    write(tmp_path / "other", b"machine mx.moon.test login alice password 3\n")
    assert passwords.fetch(FromNetrc(source.hosts, "alice", "~/other")) == Secret(b"3")
    assert failure(passwords, FromNetrc(("sun.test",), "alice")) == (
        f"{tmp_path}/.netrc: needs a line `machine sun.test login alice password PASSWORD`"
    )
    write(tmp_path / ".netrc", b"\nmachine moon.test login\n")
    assert failure(passwords, source) == f"{tmp_path}/.netrc:2: login needs a value behind it"


def test_a_credential_is_one_that_the_service_has(passwords: Passwords) -> None:
    assert failure(passwords, FromCredential("moon")) == "the service has no credential moon"
    passwords.credentials = {"moon": Secret(b"s3cret")}
    assert passwords.fetch(FromCredential("moon")) == Secret(b"s3cret")


def test_what_a_command_prints_is_kept_until_it_is_renewed(passwords: Passwords, tmp_path: Path) -> None:
    source = FromCommand(("sh", "-c", "echo >> count; wc -l < count"))
    assert not passwords.is_kept(source)
    assert [passwords.fetch(source), passwords.fetch(source)] == [Secret(b"1"), Secret(b"1")]
    assert passwords.is_kept(source)
    assert passwords.renew(source)
    assert passwords.fetch(source) == Secret(b"2")
    (tmp_path / "count").write_text("\n")
    assert not passwords.renew(source)


def test_a_failure_is_not_kept(passwords: Passwords, tmp_path: Path) -> None:
    source = FromCommand(("cat", "key"))
    message = "the password's command cat ended with status 1: cat: key: No such file or directory"
    assert failure(passwords, source) == message
    (tmp_path / "key").write_text("s3cret")
    assert passwords.fetch(source) == Secret(b"s3cret")
    (tmp_path / "key").unlink()
    with pytest.raises(PasswordError):
        passwords.renew(source)
    assert not passwords.is_kept(source)


def test_an_error_tells_no_arguments(passwords: Passwords) -> None:
    assert failure(passwords, FromCommand(("false", "s3cret"))) == "the password's command false ended with status 1"


def test_a_command_s_environment_is_who_the_user_is_and_nothing_more(
    passwords: Passwords, me: Identity, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OF_THE_SERVICE", "x")
    monkeypatch.setenv("KRB5CCNAME", "FILE:/x")
    names = b"HOME KRB5CCNAME LANG LOGNAME PATH SHELL USER"
    script = "env | cut -d = -f 1 | grep -v -e ^PWD -e ^_ -e ^SHLVL -e ^OLDPWD -e ^XDG | sort | tr '\\n' ' '"
    assert passwords.fetch(FromCommand(("sh", "-c", script))) == Secret(names + b" ")
    shell = pwd.getpwuid(me.uid).pw_shell
    values = f"{me.home} alice alice {shell} /usr/local/bin:/usr/bin:/bin C.UTF-8"
    script = 'echo "$HOME $USER $LOGNAME $SHELL $PATH $LANG"'
    assert passwords.fetch(FromCommand(("sh", "-c", script))) == Secret(values.encode())


def test_the_folder_of_the_user_s_session_is_told_where_it_is_the_user_s(
    me: Identity, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(password, "_SESSIONS", str(tmp_path))
    assert "XDG_RUNTIME_DIR" not in password.environment(me)
    (tmp_path / str(me.uid)).mkdir()
    assert password.environment(me)["XDG_RUNTIME_DIR"] == f"{tmp_path}/{me.uid}"
    (tmp_path / str(me.uid + 1)).mkdir()
    other = Identity("bob", me.uid + 1, me.gid, "/home/bob")
    assert "XDG_RUNTIME_DIR" not in password.environment(other)
