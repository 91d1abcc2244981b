"""Make a package for Debian and its relatives: build/deb.py FOLDER.

It gets sendooway_VERSION_ARCHITECTURE.deb in place of those that were made before.

What `make install` installs, `contrib/debian` describes and sets up. The same commit makes the same octets.
"""

import calendar
import gzip
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from email.utils import formatdate
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from sendooway import __version__

ROOT = Path(__file__).resolve().parents[1]
DEBIAN = ROOT / "contrib/debian"
ONE_FILE = ROOT / "dist/sendooway"
DOCUMENTS = "usr/share/doc/sendooway"

COPYRIGHT = """\
Sendooway is free software: you can redistribute it and/or modify it under the terms of the GNU General Public License
as published by the Free Software Foundation, either version 3 of the License, or (at your option) any later version.
On Debian systems, its text is in /usr/share/common-licenses/GPL-3.

/usr/sbin/sendooway holds the following packages, too.
"""


def output(*command: str) -> str:
    return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.strip()


def source_date() -> int:
    """SOURCE_DATE_EPOCH, else the time that the one file has within."""
    if given := os.environ.get("SOURCE_DATE_EPOCH"):
        return int(given)
    with zipfile.ZipFile(ONE_FILE) as packed:
        return calendar.timegm(packed.getinfo("__main__.py").date_time)


def licences() -> str:
    """Those that the one file carries for the packages in it."""
    text = COPYRIGHT
    with zipfile.ZipFile(ONE_FILE) as packed:
        for name in sorted(packed.namelist()):
            if name.startswith("licenses/") and not name.startswith("licenses/sendooway/"):
                text += f"\n\n== {name.split('/')[1]} ==\n\n{packed.read(name).decode()}"
    return text


def maintainer() -> str:
    """Who builds the package, as Debian's tools have it."""
    return f"{os.environ.get('DEBFULLNAME', 'Sendooway')} <{os.environ.get('DEBEMAIL', 'sendooway@localhost')}>"


def changes(seconds: int) -> str:
    return (
        f"sendooway ({__version__}) unstable; urgency=medium\n\n  * See CHANGELOG.md.\n\n"
        f" -- {maintainer()}  {formatdate(seconds)}\n"
    )


def write(path: Path, content: str | bytes, mode: int = 0o644) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    path.chmod(mode)


def write_compressed(path: Path, content: str | bytes) -> None:
    """As the policy wants it for manual pages and changes, and without a time."""
    octets = content.encode() if isinstance(content, str) else content
    write(path.with_name(f"{path.name}.gz"), gzip.compress(octets, 9, mtime=0))


def fill(tree: Path, seconds: int, architecture: str) -> None:
    """Everything that the package has, and its control files."""
    environment = {**os.environ, "DESTDIR": str(tree), "PREFIX": "/usr", "SYSCONFDIR": "/etc"}
    subprocess.run(["build/install", "install"], cwd=ROOT, env=environment, check=True)
    for page in (tree / "usr/share/man").glob("*/*"):
        write_compressed(page, page.read_bytes())
        page.unlink()
    write_compressed(tree / DOCUMENTS / "changelog", changes(seconds))
    write(tree / DOCUMENTS / "copyright", licences())
    write(tree / "usr/share/lintian/overrides/sendooway", (DEBIAN / "lintian-overrides").read_bytes())

    files = sorted(path for path in tree.rglob("*") if path.is_file())
    names = [str(path.relative_to(tree)) for path in files]
    sums = [hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest() for path in files]
    kibibytes = sum(-(-path.stat().st_size // 1024) for path in files)
    control = (DEBIAN / "control").read_text()
    values = {"ARCHITECTURE": architecture, "MAINTAINER": maintainer(), "SIZE": str(kibibytes), "VERSION": __version__}
    for word, value in values.items():
        control = control.replace(f"@{word}@", value)
    write(tree / "DEBIAN/control", control)
    write(tree / "DEBIAN/md5sums", "".join(f"{md5}  {name}\n" for md5, name in zip(sums, names, strict=True)))
    write(tree / "DEBIAN/conffiles", "".join(f"/{name}\n" for name in names if name.startswith("etc/")))
    for script in ("postinst", "prerm", "postrm"):
        write(tree / "DEBIAN" / script, (DEBIAN / script).read_bytes(), 0o755)
    for path in tree.rglob("*"):
        os.utime(path, (seconds, seconds))


def main(folder: Path) -> None:
    if shutil.which("dpkg-deb") is None:
        sys.exit("build/deb.py: dpkg-deb is missing; `make install` needs none")
    os.umask(0o022)
    architecture, seconds = output("dpkg", "--print-architecture"), source_date()
    for old in folder.glob("sendooway_*.deb"):
        old.unlink()
    target = folder / f"sendooway_{__version__}_{architecture}.deb"
    with tempfile.TemporaryDirectory() as name:
        tree = Path(name) / "sendooway"
        tree.mkdir(mode=0o755)
        fill(tree, seconds, architecture)
        os.environ["SOURCE_DATE_EPOCH"] = str(seconds)
        # xz: also releases whose dpkg knows no zstd can read it.
        output("dpkg-deb", "--root-owner-group", "-Zxz", "--build", str(tree), str(target.resolve()))
    print(f"{target}: {target.stat().st_size} octets")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
