"""Roots of bare systems: Debian releases with Python and nothing else of what Sendooway might want.

`servers.machine` runs things in them.
"""

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

MIRROR = "http://deb.debian.org/debian"


@dataclass(frozen=True)
class Release:
    """`variant` is mmdebstrap's: `apt` has what apt needs, `extract` is not even configured and has only `packages`."""

    suite: str
    python: str
    packages: tuple[str, ...]
    variant: str = "apt"


_WITH_SYSTEMD = ("passwd", "python3", "systemd-sysv", "dbus", "libpam-systemd")
BULLSEYE = Release("bullseye", "3.9", ("python3-minimal",), "extract")
BOOKWORM = Release("bookworm", "3.11", _WITH_SYSTEMD)
TRIXIE = Release("trixie", "3.13", _WITH_SYSTEMD)
# Testing, while this is written.
FORKY = Release("forky", "3.14", ("mount", "passwd", "python3"))


def why_not() -> str:
    """Why no root can be made here; empty where it can."""
    if os.geteuid() != 0:
        return "making a bare system needs root"
    return "" if shutil.which("mmdebstrap") else "not installed: mmdebstrap"


class Unreachable(Exception):
    """Debian's mirror does not answer, or not with all that it promises."""


def make_root(folder: Path, release: Release) -> Path:
    """The release below `folder`; takes 20 s, and 30 MB from Debian's mirror. Raises Unreachable."""
    root = folder / release.suite
    options = {
        # A mirror that stands still is good enough for tests; signatures count as ever.
        "Acquire::Check-Valid-Until": "false",
        "Acquire::Languages": "none",
        "APT::Install-Recommends": "false",
    }
    done = subprocess.run(
        [
            "mmdebstrap",
            "--quiet",
            "--mode=root",
            f"--variant={release.variant}",
            f"--include={','.join(release.packages)}",
            # For `apt-get install` in the root.
            "--skip=cleanup/apt/lists",
            # It is gone after the test run.
            "--dpkgopt=force-unsafe-io",
            *(f'--aptopt={name} "{value}"' for name, value in options.items()),
            release.suite,
            str(root),
            MIRROR,
        ],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    if "apt-get update" in done.stderr or "Failed to fetch" in done.stderr:
        raise Unreachable(f"{release.suite} cannot be downloaded from {MIRROR}")
    assert done.returncode == 0, done.stderr
    return root
