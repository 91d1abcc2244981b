"""Read a file that belongs to a user, as that user, without trusting it.

Runs in the agent after it has become the user: symbolic links may be followed, as they lead only where the user may go.
"""

import os
import stat
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from sendooway.accounts.account import AccountsError, NoAccountFile
from sendooway.origin import Origin

MAX_OCTETS = 1024 * 1024
MAX_LINE_OCTETS = 4096
MAX_FILES = 32  # in one folder
# In seconds. The clocks of file systems are coarse, up to two seconds: a file that was changed within that time may be
# changed again, and look the same.
RECENT = 3.0

_T = TypeVar("_T")


@dataclass(frozen=True)
class UserFile:
    """The text of a file, decoded from UTF-8 with `surrogateescape`, so that no octet is lost or refused here.

    `readable_by_others`: its group or everyone may read it, which deserves a warning where it holds a password. Of a
    file with the same `version` all of this is the same.
    """

    text: str = field(repr=False)
    readable_by_others: bool
    version: "Version"


@dataclass(frozen=True)
class Version:
    """Which file it is, and since when it has been as it is, content, owner and rights. Times in ns."""

    device: int
    inode: int
    octets: int
    modified: int
    changed: int

    @classmethod
    def of(cls, status: os.stat_result) -> "Version":
        return cls(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)

    def is_recent(self) -> bool:
        """Whether the file might change once more without another version, see RECENT."""
        return time.time_ns() - max(self.modified, self.changed) < RECENT * 1e9


class UserFiles:
    """The files that the sources of the user `uid` read. `exposed` are the paths of those read so far that others may
    read, too; `questions` counts how often the file system was asked for anything."""

    def __init__(self, uid: int) -> None:
        self._uid = uid
        self.exposed: set[str] = set()
        self.questions = 0
        self._remembered: dict[Hashable, tuple[Any, list[_Unchanged]]] = {}
        self._found: list[_Unchanged] | None = None  # what was found here since `remember` began

    def remember(self, key: Hashable, make: Callable[[], _T]) -> _T:
        """What `make` gives, which depends on `key` and on what it reads here: made anew only where that has changed.

        What it raises is not remembered.
        """
        value: _T
        if key in self._remembered:
            value, found = self._remembered[key]
            self.questions += len(found)
            if all(unchanged() for unchanged in found):
                return value
            del self._remembered[key]
        self._found = found = []
        try:
            value = make()
        finally:
            self._found = None
        self._remembered[key] = value, found
        return value

    def _find(self, unchanged: "_Unchanged") -> None:
        if self._found is not None:
            self._found.append(unchanged)

    def read(self, path: str) -> str:
        """The text of the file at an absolute path. Raises as the function `read` does."""
        self.questions += 1
        try:
            file = read(path, self._uid)
        except FileNotFoundError:
            self._find(lambda: _has_version(path, None))
            raise
        except AccountsError:
            self._find(_never)
            raise
        if file.readable_by_others:
            self.exposed.add(path)
        self._find(_never if file.version.is_recent() else lambda: _has_version(path, file.version))
        return file.text

    def names(self, folder: str, wanted: Callable[[str], bool]) -> tuple[str, ...]:
        """The names in a folder that are wanted, sorted, without those of folders in it.

        Raises FileNotFoundError where there is no such folder, and AccountsError where it cannot be read or has more
        than MAX_FILES such names.
        """
        self.questions += 1
        try:
            names = _names(folder, wanted)
        except FileNotFoundError:
            self._find(lambda: _has_version(folder, None))
            raise
        self._find(lambda: _has_names(folder, wanted, names))
        return names


_Unchanged = Callable[[], bool]


def _never() -> bool:
    return False


def _has_version(path: str, version: Version | None) -> bool:
    """Whether the file still has this version; None: whether there still is no such file."""
    try:
        return Version.of(os.stat(os.fsencode(path))) == version
    except FileNotFoundError:
        return version is None
    except OSError:
        return False


def _has_names(folder: str, wanted: Callable[[str], bool], names: tuple[str, ...]) -> bool:
    try:
        return _names(folder, wanted) == names
    except (FileNotFoundError, AccountsError):
        return False


def _names(folder: str, wanted: Callable[[str], bool]) -> tuple[str, ...]:
    origin = Origin(folder.encode("utf-8", "backslashreplace").decode(), 0)
    names = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if wanted(entry.name) and not _is_folder(entry):
                    names.append(entry.name)
                if len(names) > MAX_FILES:
                    raise AccountsError(origin, f"must not have more than {MAX_FILES} files that match")
    except FileNotFoundError:
        raise
    except OSError as error:
        raise AccountsError(origin, f"cannot be read: {error.strerror}") from None
    return tuple(sorted(names))


class NoFiles(UserFiles):
    """A user without any file: what is left of the sources are the mappings themselves."""

    def __init__(self) -> None:
        super().__init__(os.getuid())

    def read(self, path: str) -> str:
        raise FileNotFoundError(path)

    def names(self, folder: str, wanted: Callable[[str], bool]) -> tuple[str, ...]:
        raise FileNotFoundError(folder)


def read(path: str, uid: int) -> UserFile:
    """Read the file at an absolute path for the user `uid`. The null device is an empty file.

    Raises FileNotFoundError where there is none; NoAccountFile where it is no regular file, has more than MAX_OCTETS,
    or a line of more than MAX_LINE_OCTETS without its LF; else AccountsError, with the remedy, where it cannot be read,
    belongs to someone else than the user or root, or may be written by its group or everyone.
    """
    file = path.encode("utf-8", "backslashreplace").decode()
    try:
        # Not blocking: a FIFO would wait for a writer for ever. No stat before: the file could be swapped in between.
        descriptor = os.open(os.fsencode(path), os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
        try:
            status = os.fstat(descriptor)
            if _is_null_device(status):
                return UserFile("", readable_by_others=False, version=Version.of(status))
            _check(status, uid, Origin(file, 0))
            octets = _read(descriptor)
        finally:
            os.close(descriptor)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise AccountsError(Origin(file, 0), f"cannot be read: {error.strerror}") from None
    if len(octets) > MAX_OCTETS:
        raise NoAccountFile(Origin(file, 0), f"must not have more than {MAX_OCTETS} octets")
    for number, line in enumerate(octets.split(b"\n"), start=1):
        if len(line) > MAX_LINE_OCTETS:
            raise NoAccountFile(Origin(file, number), f"a line must not have more than {MAX_LINE_OCTETS} octets")
    readable_by_others = bool(status.st_mode & (stat.S_IRGRP | stat.S_IROTH))
    return UserFile(octets.decode("utf-8", "surrogateescape"), readable_by_others, Version.of(status))


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False  # a loop of links: reading it will say so, with its name


def _is_null_device(status: os.stat_result) -> bool:
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == os.stat(os.devnull).st_rdev


def _check(status: os.stat_result, uid: int, origin: Origin) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise NoAccountFile(origin, "must be a regular file")
    if status.st_uid not in (uid, 0):
        raise AccountsError(origin, "belongs to someone else: it must be yours or root's (chown)")
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise AccountsError(origin, "others may write it: use `chmod go-w` on it")


def _read(descriptor: int) -> bytes:
    """All octets, but no more than one above the limit: the file may grow while it is read."""
    octets = b""
    while len(octets) <= MAX_OCTETS and (piece := os.read(descriptor, MAX_OCTETS + 1 - len(octets))):
        octets += piece
    return octets
