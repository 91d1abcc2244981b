"""Real users of this machine, made for one test run, and the PAM service that checks their passwords."""

import contextlib
import fcntl
import os
import pwd
import secrets
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from servers.processes import wait_until

# nodelay: the delay after a failure is to be our own.
PAM_SERVICE = """\
auth    required pam_unix.so nodelay
account required pam_unix.so
"""
_PAM_FILE = Path("/etc/pam.d/sendooway")


def why_not() -> str:
    """Why users cannot be made here; empty where they can."""
    if os.geteuid() != 0:
        return "making users and checking passwords with PAM needs root"
    missing = [name for name in ("useradd", "userdel", "chpasswd") if not shutil.which(name, path=_PATH)]
    return f"not installed: {', '.join(missing)}" if missing else ""


_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True)
class User:
    name: str
    password: str
    uid: int
    gid: int
    home: Path

    def write(self, path: str, text: str, mode: int = 0o600) -> Path:
        """A file of this user's own below the home folder."""
        file = self.home / path
        for folder in reversed(file.relative_to(self.home).parents[:-1]):
            (self.home / folder).mkdir(mode=0o700, exist_ok=True)
            os.chown(self.home / folder, self.uid, self.gid)
        file.touch(mode=0o600)
        file.write_text(text)
        file.chmod(mode)
        os.chown(file, self.uid, self.gid)
        return file

    def clear_home(self) -> None:
        for entry in self.home.iterdir():
            if entry.is_dir():
                shutil.rmtree(entry)
            else:
                entry.unlink()


@contextlib.contextmanager
def temporary_user(name: str, folder: Path) -> Iterator[User]:
    """A user with a new password and an empty home, `folder`/NAME, for as long as the `with` lasts."""
    home = folder / name
    password = secrets.token_hex(12)
    _delete(name)  # an earlier run that was killed may have left it
    _run("useradd", "--home-dir", str(home), "--no-create-home", "--shell", "/bin/sh", name)
    try:
        # The cheapest of the strong hashes: each test logs in.
        _run("chpasswd", "--crypt-method", "SHA256", "--sha-rounds", "1000", text=f"{name}:{password}\n")
        entry = pwd.getpwnam(name)
        home.mkdir(mode=0o700)
        os.chown(home, entry.pw_uid, entry.pw_gid)
        yield User(name, password, entry.pw_uid, entry.pw_gid, home)
    finally:
        _delete(name)
        shutil.rmtree(home, ignore_errors=True)


@contextlib.contextmanager
def pam_service() -> Iterator[None]:
    """The PAM service `sendooway` asks the machine's user database; afterwards its file is as it was.

    File and users are the machine's: while another test run has them, this one waits.
    """
    folder = os.open(_PAM_FILE.parent, os.O_RDONLY)
    try:
        wait_until(lambda: _lock(folder), "the end of another test run on this machine", 600)
        before = _PAM_FILE.read_bytes() if _PAM_FILE.exists() else None
        _PAM_FILE.write_text(PAM_SERVICE)
        try:
            yield
        finally:
            # Our own text was left by a run that was killed.
            if before is None or before == PAM_SERVICE.encode():
                _PAM_FILE.unlink()
            else:
                _PAM_FILE.write_bytes(before)
    finally:
        os.close(folder)


def _lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _delete(name: str) -> None:
    with contextlib.suppress(KeyError):
        pwd.getpwnam(name)
        _run("userdel", "--force", name)  # a process that is about to end may still be of this user


def _run(*command: str, text: str = "") -> None:
    done = subprocess.run(command, input=text, env={"PATH": _PATH}, text=True, capture_output=True, check=False)
    assert done.returncode == 0, f"{command[0]}: {done.stderr}"
