"""Machines: copies of a bare root with processes, network and mounts of their own, in which commands run as on a host.

    with Machine(folder, root) as machine:
        machine.run("useradd", "alice")

What is written goes into memory, nothing that happens is seen outside, and the end of the `with` ends all of it.
"""

import contextlib
import ctypes
import itertools
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType

from servers.processes import descendants, is_running, wait_until

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_NAMESPACES = ("--mount", "--pid", "--fork", "--net", "--uts", "--ipc", "--cgroup", "--kill-child=KILL")


def why_not() -> str:
    """Why there can be no machines here; empty where there can."""
    if os.geteuid() != 0:
        return "a machine needs root"
    if missing := [name for name in ("unshare", "nsenter", "pivot_root", "ip") if not shutil.which(name)]:
        return f"not installed: {', '.join(missing)}"
    group = _own_control_group()
    if group is None or not os.access(group, os.W_OK):
        return "no control groups of version 2, which systemd wants, that we could make"
    tried = subprocess.run(["unshare", *_NAMESPACES, "mount", "-t", "tmpfs", "tmpfs", "/mnt"], capture_output=True)
    return "" if tried.returncode == 0 else f"no namespaces here: {tried.stderr.decode().strip()}"


# What becomes process 1 of the new namespaces. Arguments: the root, an empty folder, and the program to become.
_SET_UP = """\
set -e
root=$1 folder=$2
shift 2
mount -t tmpfs -o mode=755 tmpfs "$folder"
cd "$folder"
mkdir upper work root
mount -t overlay overlay -o "lowerdir=$root,upperdir=upper,workdir=work" root
cd root
mount -t proc proc proc
# What is set there holds for the host, too.
mount --bind proc/sys proc/sys
mount -o remount,bind,ro proc/sys
mount -t sysfs -o ro sysfs sys
mount -t tmpfs -o mode=755 tmpfs run
mount -t cgroup2 cgroup2 sys/fs/cgroup
# Not the terminal of the host.
rm -f dev/console
mknod dev/console c 1 3
ln -sf /dev/null etc/systemd/system/getty.target
ip link set lo up
pivot_root . mnt
cd /
umount -l /mnt
echo ready
exec "$@" < /dev/null > /dev/null 2>&1
"""


class Machine:
    """Runs inside a `with`. With `boot`, its process 1 is the root's own systemd; else it has nothing running.

    It has a network of its own, with loopback only: every port is free.
    """

    _numbers = itertools.count()

    def __init__(self, folder: Path, root: Path, *, boot: bool = False) -> None:
        self._boot = boot
        self._root = root
        self._mount_point = folder / f"machine-{next(self._numbers)}"
        group = _own_control_group()
        assert group, why_not()
        self._control_group = group / f"sendooway-test-{os.getpid()}-{self._mount_point.name}"

    def __enter__(self) -> "Machine":
        self._mount_point.mkdir(parents=True)
        self._control_group.mkdir()
        # Who ignores SIGCHLD need not wait for orphans that end.
        first = ["/lib/systemd/systemd", "--system"] if self._boot else ["sleep", "infinity"]
        ignore = [] if self._boot else ["--ignore-signal=CHLD"]
        first = ["/usr/bin/env", "-i", *ignore, f"PATH={PATH}", "container=sendooway-test", *first]
        set_up = ["sh", "-c", _SET_UP, "sh", str(self._root), str(self._mount_point)]
        enter = ["sh", "-ec", f'echo $$ > {self._control_group}/cgroup.procs; exec "$@"', "sh"]
        self._process = subprocess.Popen(
            [*enter, "unshare", *_NAMESPACES, *set_up, *first],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            assert self._process.stdout
            assert self._process.stderr
            assert self._process.stdout.readline() == "ready\n", self._process.stderr.read()
            self._pid = descendants(self._process.pid)[0]
            self._inside = ["nsenter", "--target", str(self._pid), "--all", "--root", "--wd"]
            if self._boot:
                self._wait_for_boot()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def _end(self) -> None:
        # With `unshare` ends process 1, with it the kernel ends all others, and mounts go with the last of them.
        self._process.kill()
        self._process.communicate(timeout=60)
        wait_until(self._remove_control_group, "the end of the machine's processes", 60)
        self._mount_point.rmdir()

    def _remove_control_group(self) -> bool:
        folders = [Path(path) for path, _, _ in os.walk(self._control_group, topdown=False)]
        with contextlib.suppress(OSError):
            for folder in folders:
                folder.rmdir()
        return not self._control_group.exists()

    def _wait_for_boot(self) -> None:
        def booted() -> bool:
            assert is_running(self._pid), "systemd ended"
            state = self.run("systemctl", "is-system-running", check=False).stdout.strip()
            return state in ("running", "degraded")

        wait_until(booted, "systemd has booted", 120)

    def path(self, name: str) -> Path:
        """A file of the machine, as seen from outside; `name` is absolute, and symbolic links in it are not."""
        return Path(f"/proc/{self._pid}/root{name}")

    def run(
        self,
        *command: str | Path,
        text: str = "",
        check: bool = True,
        environment: Mapping[str, str] = {},
        outside: bool = False,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command as root. AssertionError with what it said if it fails, unless `check` is False.

        `outside`: with the host's network, for packages of Debian.
        """
        inside = self._inside
        if outside:
            self.path("/etc/resolv.conf").write_bytes(Path("/etc/resolv.conf").read_bytes())
            without_network = ["--mount", "--pid", "--uts", "--ipc", "--cgroup"]
            inside = [*(word for word in inside if word != "--all"), *without_network]
        done = subprocess.run(
            [*inside, *map(str, command)],
            input=text,
            capture_output=True,
            text=True,
            timeout=300,
            env={"PATH": PATH, **environment},
        )
        assert not check or done.returncode == 0, f"{command}: {done.returncode} {done.stdout}{done.stderr}"
        return done

    def install(self, *packages: str) -> None:
        """Packages of Debian, or paths of .deb files."""
        command = ("apt-get", "-qq", "-y", "install", *packages)
        self.run(*command, environment={"DEBIAN_FRONTEND": "noninteractive"}, outside=True)

    def signal(self, pid: int, name: str) -> None:
        """To a process by its id in the machine: `TERM`, `HUP`. A bare system has no command `kill`."""
        self.run("sh", "-c", f"kill -{name} {pid}")

    def start(self, *command: str | Path, output: str = "/dev/null") -> int:
        """Start a command that goes on and writes to the file `output`; its process id in the machine."""
        script = '"$@" > "$0" 2>&1 & echo $!'
        return int(self.run("sh", "-c", script, output, *command).stdout)

    @contextlib.contextmanager
    def network(self) -> Iterator[None]:
        """Sockets that this thread, or one that it starts, makes in the `with` are the machine's."""
        with open("/proc/thread-self/ns/net") as ours, open(f"/proc/{self._pid}/ns/net") as theirs:
            _enter(theirs.fileno())
            try:
                yield
            finally:
                _enter(ours.fileno())


def _enter(namespace: int) -> None:
    """os.setns, which came with Python 3.12."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(namespace, 0) != 0:
        raise OSError(ctypes.get_errno(), "setns")


def _own_control_group() -> Path | None:
    """Our folder in the one hierarchy of cgroup version 2, which may be mounted beside those of version 1, or not."""
    mounts = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    mounted = [words[1] for words in mounts if words[2] == "cgroup2"]
    own = [line for line in Path("/proc/self/cgroup").read_text().splitlines() if line.startswith("0::")]
    return Path(mounted[0] + own[0].removeprefix("0::").rstrip("/")) if mounted and own else None
