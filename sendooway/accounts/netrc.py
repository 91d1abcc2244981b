"""The netrc file of ftp(1), which fetchmail, curl and others read, too.

    machine smtp.moon.test login alice password "se cret"

A word is quoted with double or single quotes; within them, a backslash makes a quote or a backslash stand for itself.
Elsewhere a backslash is a backslash, as for fetchmail and curl. `#` at the beginning of a word starts a comment, but
not where a value belongs. A `macdef` ends at the next empty line. `port` and `protocol`, which some programs write, are
read and ignored.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from sendooway.accounts.account import AccountsError
from sendooway.accounts.value import at, parse_password
from sendooway.origin import Origin
from sendooway.secret import Secret

_WITH_VALUE = frozenset({"machine", "login", "user", "password", "passwd", "account", "port", "protocol"})

_WORD = re.compile(r"""(?:"((?:[^"\\]|\\.)*)"|'((?:[^'\\]|\\.)*)'|(?!["'])([^ \t\r]+))(?=[ \t\r]|$)""")

_BLANKS = re.compile(r"[ \t\r]*")


@dataclass(frozen=True)
class Machine:
    """What a file says about one machine; None for what it does not say. `machine` None: `default`."""

    machine: str | None
    login: str | None
    password: Secret | None
    origin: Origin = field(compare=False)


def parse(text: str, file: str) -> tuple[Machine, ...]:
    """The entries as written. `text` is decoded from UTF-8 with `surrogateescape`.

    Raises AccountsError, with the line, for a word that is unknown, has no value, or is not closed.
    """
    entries: list[Machine] = []
    words = _words(text, file)
    for word, origin in words:
        if word == "default":
            entries.append(Machine(None, None, None, origin))
            continue
        if word not in _WITH_VALUE or (word != "machine" and not entries):
            raise AccountsError(origin, "expected `machine NAME` or `default`, and then login, password or account")
        value, _ = next(words, (None, origin))
        if value is None:
            raise AccountsError(origin, f"{word} needs a value behind it")
        match word:
            case "machine":
                entries.append(Machine(value, None, None, origin))
            case "login" | "user":
                entries[-1] = replace(entries[-1], login=value)
            case "password" | "passwd":
                with at(origin):
                    entries[-1] = replace(entries[-1], password=parse_password(value))
    return tuple(entries)


def look_up(entries: tuple[Machine, ...], hosts: tuple[str, ...], login: str) -> Secret | None:
    """The password of `login` at the first of `hosts` that has one for it; None where none has.

    Names are compared with their case, as fetchmail does. A `default`, or an entry without a login, does not count: it
    could give the password of one account to the host of another.
    """
    for host in hosts:
        for entry in entries:
            if entry.machine == host and entry.login == login and entry.password is not None:
                return entry.password
    return None


def _words(text: str, file: str) -> Iterator[tuple[str, Origin]]:
    """The words outside macros, without their quotes, and where they stand."""
    in_macro = value_follows = False
    for number, line in enumerate(text.split("\n"), start=1):
        if line in ("", "\r"):
            in_macro = False
        if in_macro or not line:
            continue
        origin = Origin(file, number)
        place = _skip_blanks(line, 0)
        while place < len(line) and (value_follows or line[place] != "#"):
            found = _WORD.match(line, place)
            if not found:
                raise AccountsError(origin, "a quote is not closed, or not the end of its word")
            place = _skip_blanks(line, found.end())
            double, single, bare = found.groups()
            if bare == "macdef" and not value_follows:
                in_macro = True
                break
            value_follows = not value_follows and bare in _WITH_VALUE
            yield re.sub(r"\\([\"'\\])", r"\1", double or single or "") if bare is None else bare, origin


def _skip_blanks(line: str, place: int) -> int:
    blanks = _BLANKS.match(line, place)
    assert blanks is not None
    return blanks.end()
