"""A place of their own for servers whose users and folders are compiled in: a mount namespace.

In there are the machine's programs, and users of one's choice; /run, /var/lib and /var/spool are empty, and gone with
the last process. The machine itself sees nothing of it, so that a package can run that is not installed.
"""

import os
import shutil
import subprocess
from pathlib import Path

from servers.program import ROOT

_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"

_SCRIPT = """\
set -e
mount --bind {folder}/passwd /etc/passwd
mount --bind {folder}/group /etc/group
for each in /run /var/lib /var/spool; do mount -t tmpfs -o mode=755 tmpfs $each; done
{setup}
exec "$@"
"""


def why_not() -> str:
    """Why there can be no such place here; empty where there can."""
    if os.geteuid() != 0:
        return "a mount namespace needs root"
    if not shutil.which("unshare", path=_PATH):
        return "not installed: unshare (util-linux)"
    done = subprocess.run(
        ["unshare", "--mount", "--propagation", "private", "mount", "-t", "tmpfs", "tmpfs", "/run"],
        capture_output=True,
        env={"PATH": _PATH},
        check=False,
    )
    return "" if done.returncode == 0 else f"no mount namespaces here: {done.stderr.decode().strip()}"


def command(folder: Path, users: tuple[str, ...], setup: str, *server: str | Path) -> list[str]:
    """The command that starts `server` in there. `folder` keeps what it takes; `setup` is a shell script that makes
    folders and the like. Each of `users` has a group of the same name."""
    for name, line in (
        ("passwd", "{user}:x:{id}:{id}::/nonexistent:/usr/sbin/nologin\n"),
        ("group", "{user}:x:{id}:\n"),
    ):
        lines = [line.format(user=user, id=number) for number, user in enumerate(users, 64000)]
        (folder / name).write_text(Path("/etc", name).read_text() + "".join(lines))
    script = _SCRIPT.format(folder=folder, setup=setup)
    return ["unshare", "--mount", "--propagation", "private", "sh", "-c", script, "cell", *map(str, server)]


def unpack(package: str) -> Path:
    """The folder with the contents of a Debian package that is not installed. Raises OSError if it cannot be had."""
    done = subprocess.run([ROOT / "build/unpack-debian-package", package], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise OSError(f"{package} cannot be downloaded: {done.stderr.strip()}")
    return Path(done.stdout.strip())
