"""What a process may still do after it has given up its rights, asked of the kernel."""

import os
import pwd
import resource
import signal
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from forked import in_child

from sendooway.unix import kernel, privileges
from sendooway.unix.privileges import PrivilegeError

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
needs_landlock = pytest.mark.skipif(kernel.landlock_version() == 0, reason="this kernel has no Landlock")

NOBODY = pwd.getpwnam("nobody")


def status(pid: int | str = "self") -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def become_nobody() -> None:
    privileges.drop_to(NOBODY.pw_uid, NOBODY.pw_gid, None)


@needs_root
def test_a_process_becomes_the_user_in_every_id_and_loses_its_groups_and_capabilities() -> None:
    def act() -> dict[str, str]:
        os.setgroups([0, 1, 2])
        become_nobody()
        return status()

    after = in_child(act)
    assert after["Uid"].split() == [str(NOBODY.pw_uid)] * 4
    assert after["Gid"].split() == [str(NOBODY.pw_gid)] * 4
    assert after["Groups"] == ""
    assert int(after["CapEff"], 16) == int(after["CapPrm"], 16) == int(after["CapAmb"], 16) == 0


@needs_root
def test_a_process_takes_the_groups_of_its_user() -> None:
    user = pwd.getpwnam("daemon")

    def act() -> list[int]:
        os.setgroups([0, 3])
        privileges.drop_to(user.pw_uid, user.pw_gid, user.pw_name)
        return os.getgroups()

    assert sorted(in_child(act)) == sorted(os.getgrouplist(user.pw_name, user.pw_gid))


@needs_root
def test_there_is_no_way_back() -> None:
    def act() -> list[str]:
        become_nobody()
        refused = []
        ways: list[Callable[[], None]] = [
            lambda: os.setuid(0),
            lambda: os.setresuid(-1, 0, -1),
            lambda: os.setgroups([0]),
        ]
        for way in ways:
            try:
                way()
            except PermissionError:
                refused.append("refused")
        return refused

    assert in_child(act) == ["refused"] * 3


@needs_root
def test_a_process_that_can_still_become_root_is_an_error() -> None:
    def act() -> str:
        # SECBIT_NO_SETUID_FIXUP: capabilities survive the change of uid.
        kernel._prctl(28, 1 << 2)
        try:
            become_nobody()
        except PrivilegeError as error:
            return str(error)
        return ""

    assert "root again" in in_child(act)


@needs_root
def test_root_can_stay_root_and_is_hardened_all_the_same() -> None:
    def act() -> dict[str, str]:
        privileges.drop_to(0, 0, "root")
        return status()

    after = in_child(act)
    assert after["Uid"].split() == ["0"] * 4
    assert after["NoNewPrivs"] == "1"


def test_an_ordinary_user_stays_what_it_is_and_is_hardened() -> None:
    uid, gid = (NOBODY.pw_uid, NOBODY.pw_gid) if os.geteuid() == 0 else (os.getuid(), os.getgid())

    def act() -> list[Any]:
        if os.geteuid() == 0:
            os.setgroups([])
            os.setresgid(gid, gid, gid)
            os.setresuid(uid, uid, uid)
        privileges.drop_to(uid, gid, None)
        return [
            os.getresuid(),
            status()["NoNewPrivs"],
            resource.getrlimit(resource.RLIMIT_CORE),
            os.umask(0),
        ]

    assert in_child(act) == [[uid] * 3, "1", [0, 0], 0o077]


def test_an_ordinary_user_cannot_become_another() -> None:
    def act() -> str:
        if os.geteuid() == 0:
            os.setresuid(1, 1, 1)
        try:
            privileges.drop_to(os.geteuid() + 1, 1, None)
        except PrivilegeError as error:
            return str(error)
        return ""

    assert "start sendooway as root" in in_child(act)


def test_a_process_that_gave_up_its_rights_cannot_be_inspected() -> None:
    def act() -> int:
        privileges.drop_to(os.getuid(), os.getgid(), None)
        return int(kernel._libc.prctl(3, 0, 0, 0, 0))  # PR_GET_DUMPABLE

    assert in_child(act) == 0


def test_it_ends_with_its_parent() -> None:
    reading, writing = os.pipe()
    middle = os.fork()
    if middle == 0:
        told, tell = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(told)
            privileges.drop_to(os.getuid(), os.getgid(), None)
            os.write(tell, b"!")
            signal.pause()
        os.close(tell)
        os.read(told, 1)
        os._exit(0)
    os.waitpid(middle, 0)
    os.close(writing)
    # The grandchild has the other end: it is closed when the kernel has ended it.
    assert os.read(reading, 1) == b""
    os.close(reading)


@needs_landlock
def test_a_confined_process_reads_what_names_and_tls_need_and_nothing_else(tmp_path: Path) -> None:
    allowed, forbidden = tmp_path / "allowed", tmp_path / "forbidden"
    allowed.write_text("x")
    forbidden.write_text("x")

    def attempt(act: Callable[[], Any]) -> str:
        try:
            act()
        except OSError as error:
            return type(error).__name__
        return "done"

    def act() -> list[str]:
        privileges.drop_to(os.getuid(), os.getgid(), None)
        assert privileges.confine_files(str(allowed), str(tmp_path / "absent"))
        sock = socket.socket()
        return [
            attempt(allowed.read_text),
            attempt(forbidden.read_text),
            attempt(Path("/etc/passwd").read_text),
            attempt(lambda: allowed.write_text("y")),
            attempt(lambda: (tmp_path / "new").write_text("y")),
            attempt(lambda: os.listdir(tmp_path)),
            attempt(lambda: os.listdir("/")),
            attempt(lambda: os.unlink(allowed)),
            attempt(Path("/etc/nsswitch.conf").read_text),
            attempt(lambda: os.listdir("/etc/ssl")),
            attempt(lambda: socket.getaddrinfo("localhost", 25)),
            attempt(lambda: os.execv("/bin/true", ["true"])),
            attempt(lambda: os.kill(os.getppid(), 0)) if kernel.landlock_version() >= 6 else "PermissionError",
            attempt(lambda: sock.bind(("127.0.0.1", 0))) if kernel.landlock_version() >= 4 else "PermissionError",
        ]

    refused = "PermissionError"
    assert in_child(act) == ["done", *[refused] * 7, "done", "done", "done", *[refused] * 3]


def test_a_kernel_without_landlock_confines_nothing_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    # An old kernel answers like one that does not know the number of the call.
    monkeypatch.setattr(kernel, "_LANDLOCK_CREATE_RULESET", 9999)

    def act() -> list[Any]:
        return [kernel.landlock_version(), privileges.confine_files(), os.path.exists("/etc/passwd")]

    assert in_child(act) == [0, False, True]


@needs_landlock
def test_confining_before_new_privileges_are_forbidden_is_an_error() -> None:
    def act() -> str:
        if os.geteuid() == 0:
            os.setresuid(NOBODY.pw_uid, NOBODY.pw_uid, NOBODY.pw_uid)
        try:
            privileges.confine_files()
        except PrivilegeError as error:
            return str(error)
        return ""

    assert "Landlock refused" in in_child(act)


def test_another_system_is_told_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "freebsd14")
    with pytest.raises(PrivilegeError, match="needs Linux"):
        privileges.drop_to(os.getuid(), os.getgid(), None)


@pytest.mark.parametrize(
    ("title", "shown", "name"),
    [
        ("sendooway [agent: alice]", "sendooway [agent: alice]", "sendooway agent"),
        ("x" * 9999, "x" * 20, "x" * 15),
    ],
)
def test_ps_shows_the_title(title: str, shown: str, name: str) -> None:
    def act() -> list[str]:
        kernel.set_title(title)
        return [
            Path("/proc/self/cmdline").read_bytes().rstrip(b"\0").decode(),
            Path("/proc/self/comm").read_text().strip(),
        ]

    line, comm = in_child(act)
    assert line.startswith(shown[: len(line)])
    assert comm == name


def test_a_title_leaves_the_environment_alone() -> None:
    def act() -> bool:
        before = Path("/proc/self/environ").read_bytes()
        kernel.set_title("x" * 9999)
        return Path("/proc/self/environ").read_bytes() == before

    assert in_child(act)
