"""Read a file that belongs to a user, as that user, without trusting it.

Runs in the agent after it has become the user: symbolic links may be followed, as they lead only where the user may go.
"""

import os
import stat
from collections.abc import Callable
from dataclasses import dataclass, field

from sendooway.accounts.account import AccountsError, NoAccountFile, Origin

MAX_OCTETS = 1024 * 1024
MAX_LINE_OCTETS = 4096
MAX_FILES = 32  # in one folder


@dataclass(frozen=True)
class UserFile:
    """The text of a file, decoded from UTF-8 with `surrogateescape`, so that no octet is lost or refused here.

    `readable_by_others`: its group or everyone may read it, which deserves a warning where it holds a password.
    """

    text: str = field(repr=False)
    readable_by_others: bool


class UserFiles:
    """The files that the sources of one user read. `exposed` are those read so far that others may read, too."""

    def __init__(self, uid: int) -> None:
        self._uid = uid
        self.exposed: set[str] = set()

    def read(self, path: str) -> str:
        """The text of the file at an absolute path. Raises as the function `read` does."""
        file = read(path, self._uid)
        if file.readable_by_others:
            self.exposed.add(path)
        return file.text

    def names(self, folder: str, wanted: Callable[[str], bool]) -> tuple[str, ...]:
        """The names in a folder that are wanted, sorted, without those of folders in it.

        Raises FileNotFoundError where there is no such folder, and AccountsError where it cannot be read or has more
        than MAX_FILES such names.
        """
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
    """No file is there: what is left of the sources are the mappings themselves."""

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
                return UserFile("", readable_by_others=False)
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
    return UserFile(octets.decode("utf-8", "surrogateescape"), readable_by_others)


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
