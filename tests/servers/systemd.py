"""systemd itself, with our units and nothing else: a manager for root's own services, in namespaces of its own.

It is the one that each user's session has (`systemd --user`). As root's it can do all that the system's manager does
for a service (capabilities, system calls, name spaces), and needs no machine that it would have to boot.
"""

import contextlib
import os
import shutil
import subprocess
import time
from pathlib import Path
from types import TracebackType

from servers.processes import descendants, wait_until, wait_until_gone
from servers.program import ROOT

_SYSTEMD = Path("/usr/lib/systemd/systemd")
_FOLDER = ROOT / "contrib/systemd"

# What units refer to, without what usually is in there.
_TARGETS = ("basic", "default", "multi-user", "network-online", "nss-lookup", "nss-user-lookup", "shutdown", "sockets")

# /run of its own, for its sockets and as the place of folders that units ask for.
_SCRIPT = """\
set -e
mount -t tmpfs -o mode=755 tmpfs /run
mkdir -p /run/systemd/system /run/manager/cache
# Where it logs to.
touch "$1/systemd.log"
mount --bind "$1/systemd.log" /dev/console
# Mounts for a service that a process of systemd's makes, of its credentials, are to be seen by the others.
mount --make-rshared /
/usr/lib/systemd/systemd --user --unit=default.target --log-target=console &
wait
"""
_ENVIRONMENT = {
    "XDG_RUNTIME_DIR": "/run/manager",
    "XDG_CACHE_HOME": "/run/manager/cache",
    "HOME": "/run/manager",
    "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
}


def why_not() -> str:
    """Why it cannot be started here; empty where it can."""
    if os.geteuid() != 0:
        return "systemd as it is for services of the system needs root"
    if not _SYSTEMD.exists() or shutil.which("unshare") is None:
        return "not installed: systemd, util-linux"
    if subprocess.run(["systemd-detect-virt", "--quiet", "--chroot"], check=False).returncode == 0:
        return "systemctl does nothing in a chroot"
    if not _cgroups() or not all(os.access(folder, os.W_OK) for folder in _cgroups()):
        return "systemd needs control groups that can be written"
    if subprocess.run(["unshare", "--mount", "--pid", "--fork", "true"], capture_output=True, check=False).returncode:
        return "systemd needs name spaces of its own"
    return ""


def _cgroups() -> list[Path]:
    """The folders of this process's control groups that systemd works with: cgroup2, or the one of that name."""
    mounts = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    own = [line.split(":", 2) for line in Path("/proc/self/cgroup").read_text().splitlines()]
    found = []
    for _, controllers, path in own:
        for _, place, kind, options, *_ in mounts:
            named = kind == "cgroup" and "name=systemd" in options.split(",") and controllers == "name=systemd"
            if named or (kind == "cgroup2" and controllers == ""):
                found.append(Path(place + path))
    return found


class Systemd:
    """Runs inside a `with`, and has the units of contrib, with a drop-in for each that `drop_ins` names.

    All processes end with the `with`. Services see the folders `binds` although they have a /tmp of their own.
    """

    def __init__(self, folder: Path, drop_ins: dict[str, str]) -> None:
        self._folder = folder
        self._name = f"sendooway-test-{os.getpid()}-{time.monotonic_ns()}"
        units = folder / "units"
        shutil.copytree(_FOLDER, units)
        for name in _TARGETS:
            (units / f"{name}.target").write_text("[Unit]\nDefaultDependencies=no\n")
        for unit, text in drop_ins.items():
            (units / f"{unit}.d").mkdir()
            (units / f"{unit}.d/test.conf").write_text(text)
        self._environment = {**_ENVIRONMENT, "SYSTEMD_UNIT_PATH": str(units)}

    def __enter__(self) -> "Systemd":
        self._own_cgroups = [folder / self._name for folder in _cgroups()]
        for folder in self._own_cgroups:
            folder.mkdir()
        # The shell enters them before it starts anything.
        enter = "".join(f"echo 0 > {folder}/cgroup.procs; " for folder in self._own_cgroups)
        unshare = "exec unshare --mount --pid --fork --kill-child --mount-proc"
        self._process = subprocess.Popen(
            ["/bin/bash", "-c", f'{enter}{unshare} /bin/bash -c "$0" bash "$1"', _SCRIPT, str(self._folder)],
            stdin=subprocess.DEVNULL,
            env=self._environment,
        )
        try:
            wait_until(lambda: self.systemctl("is-system-running").stdout.strip() == "running", "systemd runs", 60)
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        left = descendants(self._process.pid)
        self._process.kill()
        self._process.wait()
        wait_until_gone(left)
        # With more than one hierarchy, systemd has made folders of the same name in the others.
        hierarchies = {path for folder in self._own_cgroups for path in folder.parent.parent.iterdir() if path.is_dir()}
        for folder in {*self._own_cgroups, *(path / self._name for path in hierarchies)}:
            for path, _, _ in os.walk(folder, topdown=False):
                with contextlib.suppress(FileNotFoundError):
                    os.rmdir(path)

    @property
    def log(self) -> str:
        """What systemd itself has said."""
        return (self._folder / "systemd.log").read_text()

    @property
    def pid(self) -> int:
        """Of the process whose descendants all others are."""
        return self._process.pid

    def show(self, unit: str, name: str) -> str:
        """A property of a unit."""
        return self.systemctl("show", "--property", name, "--value", unit).stdout.strip()

    def systemctl(self, *words: str) -> subprocess.CompletedProcess[str]:
        command = ["systemctl", "--user", "--no-pager", *words]
        inner = descendants(self._process.pid)
        if not inner:
            # Not begun yet, or over.
            return subprocess.CompletedProcess(command, 1, "", "no process to join")
        return subprocess.run(
            ["nsenter", "--target", str(inner[0]), "--mount", "--pid", *command],
            capture_output=True,
            text=True,
            env=self._environment,
            timeout=120,
            check=False,
        )
