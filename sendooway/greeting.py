"""The greeting, said before the rest of the program is imported.

A super-server starts a process for each connection, and its client waits. Most of what we import is not needed to say
one line, so a process of its own says it meanwhile: it looks into the configuration, which may hold passwords that the
process that becomes the proxy must never have in its memory, gives up its rights for good, and writes the line.

Where that is not so simple (TLS from the first octet, a balancer that may have to speak first, a value that looks
wrong) it says nothing. Then the session greets, or what is wrong is reported. So nothing here reports errors, and
nothing may be imported that takes long.
"""

# What `signal` itself imports takes as long as Python's own start.
import _signal  # type: ignore[import-not-found]
import os
import stat

from sendooway import assignment

_MAX_FILE_OCTETS = 1 << 20  # octets, as for all who read the file
_NAME_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")


class Unclear(Exception):
    """Whether or how to greet cannot be told from what is read here."""


def line(localname: str) -> str:
    """What a client reads first, without code and line end (RFC 5321, 4.2)."""
    return f"{localname} ESMTP Sendooway"


class Greeter:
    """The child that greets; `process` is its number, None where there is none."""

    def __init__(self, process: int | None = None) -> None:
        self._process = process
        self._said = False

    def said(self) -> bool:
        """Whether the client has been greeted; waits until that is known."""
        if self._process is not None:
            self._said = os.waitpid(self._process, 0)[1] == 0
            self._process = None
        return self._said


def hear_of_children() -> None:
    """Do not ignore SIGCHLD, even if whoever has started us does: the exit statuses of our children would be lost."""
    _signal.signal(_signal.SIGCHLD, _signal.SIG_DFL)


def begin(arguments: list[str]) -> Greeter:
    """Fork the process that greets, for the arguments of the command line.

    There is none where standard input is not the connection, or the arguments are others than super-servers give.
    """
    hear_of_children()
    try:
        path = _configuration_file(arguments)
        if path is None:
            return Greeter()
        process = os.fork()
    except OSError:
        # Standard input is closed, or there is no room for one more process.
        return Greeter()
    if process == 0:
        status = os.EX_UNAVAILABLE
        try:
            _greet(path)
            status = os.EX_OK
        finally:
            # Also for an exception: it would be told to standard error, which may be the client.
            os._exit(status)
    return Greeter(process)


def _configuration_file(arguments: list[str]) -> str | None:
    if "LISTEN_FDS" in os.environ:
        # The connection is another descriptor (`activation.py`).
        return None
    path, is_connection = "/etc/sendooway.conf", stat.S_ISSOCK(os.fstat(0).st_mode)
    rest = iter(arguments)
    for argument in rest:
        match argument:
            case "-i" | "--inetd":
                is_connection = True
            case "-c" | "--config":
                path = next(rest, "")
            case "-l" | "--log":
                next(rest, "")
            case "-S" | "--nossl":
                pass
            case _:
                return None
    return path if is_connection else None


def _greet(path: str) -> None:
    localname, run_as = scan(_read(path))
    if os.geteuid() == 0:
        from sendooway.unix.run_as import network_user

        user = network_user(run_as)
        os.setgroups([])
        os.setresgid(user.pw_gid, user.pw_gid, user.pw_gid)
        os.setresuid(user.pw_uid, user.pw_uid, user.pw_uid)
    # A connection on which nothing was said has room for a line.
    os.write(1, f"220 {line(localname or os.uname().nodename)}\r\n".encode("ascii"))


def _read(path: str) -> str:
    # Not blocking: a FIFO would wait for a writer for ever.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    return os.read(descriptor, _MAX_FILE_OCTETS).decode("utf-8", "surrogateescape")


def scan(text: str) -> tuple[str, str]:
    """The values of `localname` and `runAs` in the text of a configuration, empty for their defaults.

    Raises Unclear if one of them looks wrong, or if `proxyTrust` has a value. What is wrong elsewhere is not noticed.
    """
    values = {"localname": "", "runas": ""}
    for each in assignment.lines(text):
        keyword, _, value = assignment.split(each)
        if keyword.lower() == "proxytrust" and value:
            raise Unclear
        if keyword.lower() in values:
            values[keyword.lower()] = value
    localname, run_as = values.values()
    if len(localname) > 255 or not _NAME_CHARACTERS.issuperset(localname) or " " in run_as or "\t" in run_as:
        raise Unclear
    return localname, run_as
