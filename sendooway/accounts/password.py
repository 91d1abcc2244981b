"""Where a password comes from, as the files of accounts write it. Nothing is opened or run here.

file:PATH           the first line of a file; PATH is absolute, or begins with ~/
command:WORD ...    the first line that a program prints; words are quoted as for a shell, which there is none
netrc:[PATH]        what a netrc file, by default ~/.netrc, has for the server and the login there
credential:NAME     a credential of the service, see systemd.exec(5)
"""

# Not where they are needed: a user may not be able to read Python's own files.
import ast
import shlex

from sendooway.accounts.account import FromCommand, FromCredential, FromFile, FromNetrc, Password
from sendooway.accounts.value import BadValue
from sendooway.secret import Secret

_MAX_WORDS = 100
_MAX_LITERAL = 4096  # characters; what is nested far more deeply could end the interpreter


def parse(text: str, host: str, login: str, *, credentials: bool = False) -> Password:
    """One of the forms above. `host` and `login` are those of the account, for netrc.

    With `credentials` it may be one of the service: else its secrets could be sent to anybody's host. Raises BadValue.
    """
    kind, colon, rest = text.strip(" \t").partition(":")
    rest = rest.lstrip(" \t")
    if colon:
        match kind.lower():
            case "file":
                return FromFile(_path(rest))
            case "command":
                return FromCommand(_checked(_words(rest)))
            case "netrc":
                return FromNetrc((host,), login, _path(rest)) if rest else FromNetrc((host,), login)
            case "credential" if not credentials:
                raise BadValue("only a direct: mapping of the administrator may take a credential of the service")
            case "credential":
                return FromCredential(_credential(rest))
    raise BadValue("a password comes from file:PATH, command:WORD ..., netrc:[PATH] or credential:NAME")


def parse_literal(text: str) -> FromCommand:
    """A command as getmail has it: the literal of a tuple (or list) of strings in Python. Raises BadValue."""
    wrong = BadValue('a command must read ("PROGRAM", "ARGUMENT", ...)')
    if len(text) > _MAX_LITERAL:
        raise BadValue(f"a command must have at most {_MAX_LITERAL} characters")
    try:
        # Literals only. What is nested too deeply for the parser is a MemoryError or a RecursionError.
        words = ast.literal_eval(text.strip())
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        raise wrong from None
    if not isinstance(words, tuple | list) or not all(isinstance(word, str) for word in words):
        raise wrong
    return FromCommand(_checked(tuple(words)))


def first_line(octets: bytes) -> Secret | None:
    """The password in a file, or in what a program prints; None if the first line is empty or has a NUL."""
    line = octets.partition(b"\n")[0].removesuffix(b"\r")
    # A NUL would end it in the messages of PLAIN (RFC 4616).
    return Secret(line) if line and b"\0" not in line else None


def _path(text: str) -> str:
    if not text.startswith(("/", "~/")) or not text.isprintable():
        raise BadValue("the path must be absolute, or begin with ~/")
    return text


def _words(text: str) -> tuple[str, ...]:
    try:
        return tuple(shlex.split(text))
    except ValueError:
        raise BadValue("the command has a quote that is not closed, or ends with a backslash") from None


def _checked(words: tuple[str, ...]) -> tuple[str, ...]:
    if not words or not words[0] or len(words) > _MAX_WORDS or any("\0" in word for word in words):
        raise BadValue(f"the command must have a program and at most {_MAX_WORDS} words, none with a NUL")
    return words


def _credential(name: str) -> str:
    # It becomes the name of a file in a folder that root reads from.
    if not 0 < len(name) <= 255 or not name.isascii() or not all(char.isalnum() or char in "._-" for char in name):
        raise BadValue("the name of a credential must have letters, digits, `.`, `_` and `-` only")
    if name in (".", ".."):
        raise BadValue("the name of a credential must not be . or ..")
    return name
