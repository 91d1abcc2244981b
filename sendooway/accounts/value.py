"""The values that every source writes alike, from their text to what an account holds.

Text is decoded from UTF-8 with `surrogateescape`, so octets that are not UTF-8 are lone surrogates in it. A password
gets them back as they were; everywhere else they are refused.
"""

from types import TracebackType

from sendooway.accounts.account import AccountsError
from sendooway.config import SERVICES
from sendooway.origin import Origin
from sendooway.secret import Secret


class BadValue(Exception):
    """A text is no such value. `reason` says what would be right, and does not quote the text."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class at:
    """`with at(origin):` makes a BadValue within it an AccountsError of that place."""

    def __init__(self, origin: Origin) -> None:
        self.origin = origin

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if isinstance(error, BadValue):
            raise AccountsError(self.origin, error.reason) from None


_NEVER_IN_HOSTS = frozenset(" \"#$&'()*+,/;<=>?@[\\]^`{|}")


def parse_host(text: str) -> str:
    """A host name or a numeric address, which may stand in brackets (the result does not). Raises BadValue."""
    host = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    if not 0 < len(host) <= 255 or not host.isprintable() or not _NEVER_IN_HOSTS.isdisjoint(host):
        raise BadValue("the server must be a host name or a numeric address")
    return host


def parse_port(text: str) -> int:
    """The number of a port from 1 to 65535, or of a service of this name. Raises BadValue."""
    if text.isascii() and text.isdigit() and len(text) <= 5 and 1 <= int(text) <= 65535:
        return int(text)
    if text.lower() in SERVICES:
        return SERVICES[text.lower()]
    raise BadValue(f"the port must be a number from 1 to 65535, or one of {', '.join(SERVICES)}")


def parse_username(text: str) -> str:
    """A login name, which is not empty. Raises BadValue."""
    if not text or not text.isprintable():
        raise BadValue("the user name must not be empty, and be UTF-8 without control characters")
    return text


def parse_password(text: str) -> Secret:
    """A password, which may be empty. Raises BadValue for a NUL, which would end it in messages of PLAIN (RFC 4616)."""
    if "\0" in text:
        raise BadValue("the password must have no NUL")
    return Secret(text.encode("utf-8", "surrogateescape"))
