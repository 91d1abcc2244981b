"""The one file that `make dist` makes, seen from within.

All of the program is in a zip file there, from which Python imports it. Two things need care. The system loads shared
objects only from files of their own: `unpack` gives those of gssapi such files. And the zip may be replaced by a newer
one while a process runs, which then finds nothing in it any more: `preload` leaves nothing to be found later.

Where the program runs from a folder, as Python packages usually do, all functions here do nothing.
"""

import os
import stat
import sys
from collections.abc import Iterable
from zipimport import zipimporter

_ROOTS_FOLDER = "/var/cache/sendooway"
# What starts the program, and what people ask it: no server comes to them.
_NOT_OF_SERVERS = ("sendooway.__main__", "sendooway.commands", "sendooway.discovery")
_unpacked: list[str] = []


class UnpackError(Exception):
    """The packages with shared objects cannot be had. The text says why and what to do."""


_REPLACED = "the file of the program was replaced while it runs, or is damaged: restart it"


def read(name: str) -> bytes | None:
    """The octets of an entry of the zip; None where there is no such entry, or no zip.

    Raises ImportError if the zip was replaced, OSError if it cannot be read.
    """
    archive = _archive()
    if archive is None:
        return None
    try:
        return archive.get_data(name)
    except OSError as error:
        # What zipimport says about a name that it does not know has no number.
        if error.filename is None:
            return None
        raise


def unpack() -> None:
    """Make the packages with shared objects importable: above all gssapi.

    They go into a folder of their own, once for each version of them, and are looked at each time: nobody but root and
    the user of this process may have made or be able to change anything of it. It is /var/cache/sendooway or, under
    systemd, the unit's CacheDirectory for root, and ~/.cache/sendooway or $XDG_CACHE_HOME/sendooway for all others.

    Call it before the process forks those that import them; again, it does nothing. Raises UnpackError.
    """
    if _unpacked:
        return
    try:
        manifest = read("native.txt")
        if manifest is None:
            return
        folder = _unpack(manifest)
        if os.statvfs(folder).f_flag & os.ST_NOEXEC:
            raise UnpackError(f"{folder} is on a file system mounted noexec, from which no shared object can be loaded")
    except ImportError as error:
        raise UnpackError(_REPLACED) from error
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        raise UnpackError(f"cannot unpack gssapi: {where}{error.strerror or error}") from error
    # Behind the zip: nothing of ours is ever looked for there.
    sys.path.append(folder)
    _unpacked.append(folder)


def _unpack(manifest: bytes) -> str:
    digest, *lines = manifest.decode("ascii").splitlines()
    sizes = {name: int(size) for size, name in (line.split(" ", 1) for line in lines)}
    cache = _cache_folder()
    _make_folder(cache)
    _require_safe_path(cache)
    folder = f"{cache}/{digest}"
    if not _is_complete(folder, sizes):
        _fill(folder, digest, sizes)
        _remove_older(cache, digest)
    return folder


def preload() -> None:
    """Import all that the zip holds for servers. Call it where processes are forked that live long, or fork others."""
    archive = _archive()
    if archive is None:
        return
    from importlib import import_module
    from pkgutil import iter_modules

    def preload_below(path: Iterable[str], package: str) -> None:
        for module in iter_modules(path, f"{package}."):
            if module.name not in _NOT_OF_SERVERS:
                loaded = import_module(module.name)
                if module.ispkg:
                    preload_below(loaded.__path__, module.name)

    # Of other packages only the top, which imports the modules that it needs. To import one that it does not could put
    # that in the place of something else of the same name, as with `pam.pam`.
    for module in iter_modules([archive.archive]):
        if module.name != "__main__":
            import_module(module.name)
    from sendooway import __path__

    preload_below(__path__, "sendooway")


def _archive() -> zipimporter | None:
    loader = __spec__.loader
    return loader if isinstance(loader, zipimporter) else None


def _cache_folder() -> str:
    """The path of the folder to unpack into, absolute and without symbolic links. Raises UnpackError."""
    if os.geteuid() == 0:
        # systemd.exec(5); several are apart by colons.
        path = os.environ.get("CACHE_DIRECTORY", "").partition(":")[0] or _ROOTS_FOLDER
    else:
        import pwd

        path = os.environ.get("XDG_CACHE_HOME", "")
        if not path.startswith("/"):
            # inetd takes HOME out of the environment.
            path = f"{pwd.getpwuid(os.geteuid()).pw_dir}/.cache"
        path = f"{path}/sendooway"
    if not path.startswith("/"):
        raise UnpackError(f"the folder to unpack gssapi into, {path!r}, is not an absolute path")
    return os.path.realpath(path)


def _require_safe_path(path: str) -> None:
    """Raises UnpackError if anybody but root and us could put something else there. `path` has no symbolic links."""
    while True:
        if fault := _fault(os.lstat(path)):
            raise UnpackError(f"{path} {fault}, who could make us run what we have not unpacked: it must be ours alone")
        if path == "/":
            return
        path = os.path.dirname(path)


def _fault(status: os.stat_result) -> str | None:
    """Why somebody other than root and the user of this process could change it; None if nobody could."""
    if status.st_uid not in (0, os.geteuid()):
        return f"belongs to the user {status.st_uid}"
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return "can be written by other users"
    return None


def _is_complete(folder: str, sizes: dict[str, int]) -> bool:
    """Whether it holds all files in full, each of its size. Raises UnpackError if somebody else could change them."""
    try:
        _require_safe_tree(folder)
        return all(os.lstat(f"{folder}/{name}").st_size == size for name, size in sizes.items())
    except FileNotFoundError:
        return False


def _require_safe_tree(path: str) -> None:
    status = os.lstat(path)
    is_folder = stat.S_ISDIR(status.st_mode)
    fault = _fault(status) if is_folder or stat.S_ISREG(status.st_mode) else "is neither a file nor a folder"
    if fault:
        raise UnpackError(f"{path} {fault}: remove it, and see who put it there")
    if is_folder:
        with os.scandir(path) as entries:
            for entry in entries:
                _require_safe_tree(entry.path)


def _make_folder(path: str) -> None:
    """Make it with rights that no umask takes away: agents read what is in it as the users that they have become."""
    if not os.path.isdir(path):
        parent = os.path.dirname(path)
        _make_folder(parent)
        _require_safe_path(parent)
        try:
            os.mkdir(path)
        except FileExistsError:
            return
        os.chmod(path, 0o755)  # noqa: S103


def _fill(folder: str, digest: str, sizes: dict[str, int]) -> None:
    """Unpack beside it, then give it its name: so it is there in full, or not at all."""
    import hashlib
    import shutil
    import tempfile

    try:
        import lzma
    except ImportError as error:
        raise UnpackError("unpacking gssapi needs Python's own module lzma, which is missing here") from error

    packed = read("native.xz")
    if packed is None or hashlib.sha256(packed).hexdigest() != digest:
        raise UnpackError(_REPLACED)
    octets = memoryview(lzma.decompress(packed))
    new = tempfile.mkdtemp(prefix=".new-", dir=os.path.dirname(folder))
    try:
        for name, size in sizes.items():
            _write(new, name, octets[:size])
            octets = octets[size:]
        os.chmod(new, 0o755)  # noqa: S103
        try:
            os.rename(new, folder)
        except OSError:
            # Another process was quicker, or what is there is not complete: a disk was full, or the power gone.
            if not _is_complete(folder, sizes):
                shutil.rmtree(folder)
                os.rename(new, folder)
    finally:
        shutil.rmtree(new, ignore_errors=True)


def _remove_older(cache: str, digest: str) -> None:
    """Remove what earlier versions have unpacked. Servers of theirs that still run have imported it at their start."""
    import shutil

    with os.scandir(cache) as entries:
        for entry in entries:
            if len(entry.name) == len(digest) and entry.name != digest:
                shutil.rmtree(entry.path, ignore_errors=True)


def _write(folder: str, name: str, octets: memoryview) -> None:
    path = folder
    for part in name.split("/")[:-1]:
        path = f"{path}/{part}"
        _make_folder(path)
    with open(f"{folder}/{name}", "xb") as file:
        file.write(octets)
        os.fchmod(file.fileno(), 0o644)
