"""What the Linux kernel offers and Python's os module does not: prctl(2), Landlock, and the name that ps(1) shows.

The only module of ours that calls C. It is imported before any process gives up its rights.
"""

import ctypes
import os
import stat
import sys
from collections.abc import Iterable
from contextlib import suppress
from functools import cache

_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_SET_NAME = 15
_PR_SET_CHILD_SUBREAPER = 36
_PR_SET_NO_NEW_PRIVS = 38

# The same on every architecture since Linux 5.13, but for alpha.
_LANDLOCK_CREATE_RULESET = 444
_LANDLOCK_ADD_RULE = 445
_LANDLOCK_RESTRICT_SELF = 446

_RULESET_VERSION = 1
_RULE_PATH_BENEATH = 1
_READ_FILE = 1 << 2
_READ_DIR = 1 << 3

# How many of the file rights (linux/landlock.h, the lowest bits) the kernel of this ABI knows.
_FILE_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15}
_FILE_RIGHTS_NOW = 16  # since ABI 5
_BIND_TCP = 1  # since ABI 4
_ALL_SCOPES = 3  # abstract UNIX sockets and signals, since ABI 6

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


def _prctl(option: int, argument: int) -> None:
    if _libc.prctl(option, ctypes.c_ulong(argument), *[ctypes.c_ulong(0)] * 3) != 0:
        raise _error("prctl")


def _syscall(number: int, *arguments: object) -> int:
    result = int(_libc.syscall(ctypes.c_long(number), *arguments))
    if result < 0:
        raise _error("landlock")
    return result


def _error(call: str) -> OSError:
    number = ctypes.get_errno()
    return OSError(number, f"{call}: {os.strerror(number)}")


def forbid_new_privileges() -> None:
    """From now on execve(2) grants nothing: no set-user-ID bit, no file capability. Raises OSError."""
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)


def forbid_inspection() -> None:
    """No core, no ptrace(2), /proc/PID is root's. Raises OSError."""
    _prctl(_PR_SET_DUMPABLE, 0)


def die_with_parent(signal: int) -> None:
    """Get `signal` when the parent dies. A change of uid undoes it. Raises OSError."""
    _prctl(_PR_SET_PDEATHSIG, signal)


def adopt_orphans(wanted: bool) -> None:
    """Whether a descendant whose parent ends becomes a child of this process, from now on. Raises OSError."""
    _prctl(_PR_SET_CHILD_SUBREAPER, int(wanted))


class Children:
    """The children of this process, for its first thread: those that it has forked and orphans that it has adopted.

    The file is opened at the beginning: it is needed most where no descriptor is left. Raises OSError.
    """

    def __init__(self) -> None:
        self._file = None
        with suppress(FileNotFoundError):  # CONFIG_PROC_CHILDREN
            # As octets: without rights, Python's codecs may be out of reach.
            self._file = open(f"/proc/self/task/{os.getpid()}/children", "rb", buffering=0)  # noqa: SIM115

    def numbers(self) -> frozenset[int]:
        """The numbers of all of them now, dead ones too. None where the kernel does not tell."""
        if self._file is None:
            return frozenset()
        self._file.seek(0)
        return frozenset(map(int, self._file.read().split()))

    def close(self) -> None:
        if self._file is not None:
            self._file.close()


class _Ruleset(ctypes.Structure):
    _fields_ = [("files", ctypes.c_uint64), ("network", ctypes.c_uint64), ("scopes", ctypes.c_uint64)]


class _PathBeneath(ctypes.Structure):
    _pack_ = 1
    _fields_ = [("rights", ctypes.c_uint64), ("parent", ctypes.c_int32)]


def landlock_version() -> int:
    """The version of Landlock's ABI, 0 where the kernel has none."""
    if sys.platform != "linux":
        return 0
    try:
        return _syscall(_LANDLOCK_CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint32(_RULESET_VERSION))
    except OSError:
        return 0


def confine_files(readable: Iterable[str]) -> None:
    """From now on only what is at and below the paths `readable` can be opened, and only to read.

    A path that does not exist is passed over. Where the kernel can, also forbid binding TCP ports, abstract UNIX
    sockets and signals to processes outside. It holds for this thread and what it forks or starts later. Raises OSError
    where the kernel refuses; call it only if `landlock_version()` is not 0, and after `forbid_new_privileges()`.
    """
    version = landlock_version()
    ruleset = _Ruleset(
        files=(1 << _FILE_RIGHTS.get(version, _FILE_RIGHTS_NOW)) - 1,
        network=_BIND_TCP if version >= 4 else 0,
        scopes=_ALL_SCOPES if version >= 6 else 0,
    )
    # An older kernel refuses fields that it does not know, unless they are zero: as they are here.
    size = ctypes.c_size_t(ctypes.sizeof(ruleset))
    rules = _syscall(_LANDLOCK_CREATE_RULESET, ctypes.byref(ruleset), size, ctypes.c_uint32(0))
    try:
        for path in readable:
            _permit_reading(rules, path)
        _syscall(_LANDLOCK_RESTRICT_SELF, ctypes.c_int(rules), ctypes.c_uint32(0))
    finally:
        os.close(rules)


def _permit_reading(rules: int, path: str) -> None:
    try:
        parent = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return
    try:
        # READ_DIR is refused for what is no directory.
        is_directory = stat.S_ISDIR(os.fstat(parent).st_mode)
        beneath = _PathBeneath(_READ_FILE | _READ_DIR if is_directory else _READ_FILE, parent)
        _syscall(
            _LANDLOCK_ADD_RULE,
            ctypes.c_int(rules),
            ctypes.c_int(_RULE_PATH_BENEATH),
            ctypes.byref(beneath),
            ctypes.c_uint32(0),
        )
    finally:
        os.close(parent)


@cache
def _command_line() -> tuple[int, int]:
    """Where the command line begins and ends in memory: the same in every process that is forked. 0 if not known."""
    try:
        with open("/proc/self/stat", "rb") as file:
            # proc_pid_stat(5): the name in parentheses is field 2, arg_start and arg_end are 48 and 49.
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return 0, 0
    return int(fields[45]), int(fields[46])


def set_title(title: str) -> None:
    """Let ps(1) show `title` as this process's command line, as far as the room of the first one reaches.

    The name that `ps -o comm` and `top` show becomes its first 15 octets without brackets. Does nothing where /proc
    does not tell where the command line is: a title is no more than a help for people.
    """
    octets = title.encode("utf-8", "surrogateescape")
    name = title.replace("[", "").replace("]", "").replace(":", "").encode("utf-8", "surrogateescape")[:15]
    _libc.prctl(_PR_SET_NAME, ctypes.c_char_p(name), *[ctypes.c_ulong(0)] * 3)
    start, end = _command_line()
    if start and end > start:
        # The last octet has to stay NUL: or else the kernel goes on into the environment.
        ctypes.memmove(start, octets[: end - start - 1].ljust(end - start, b"\0"), end - start)
