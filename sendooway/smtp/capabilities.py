"""What a smarthost offers."""

import re
from dataclasses import dataclass

from sendooway.smtp.reply import Reply

# A smarthost that offers more means to exhaust us. Names are as in RFC 4422, 3.1.
MAX_MECHANISMS = 64
_MECHANISM = re.compile("[A-Z0-9_-]{1,20}")


@dataclass(frozen=True)
class Capabilities:
    """The extensions of an EHLO reply: keywords in capitals, each with its parameters as they came."""

    extensions: dict[str, str]

    @property
    def pipelining(self) -> bool:
        return "PIPELINING" in self.extensions

    @property
    def starttls(self) -> bool:
        return "STARTTLS" in self.extensions

    @property
    def mechanisms(self) -> tuple[str, ...]:
        """The SASL mechanisms, in capitals, each once, no more than MAX_MECHANISMS of them."""
        offered = self.extensions.get("AUTH", "").upper().split()
        return tuple(dict.fromkeys(filter(_MECHANISM.fullmatch, offered)))[:MAX_MECHANISMS]

    @property
    def chunking(self) -> bool:
        return "CHUNKING" in self.extensions

    @property
    def smtputf8(self) -> bool:
        return "SMTPUTF8" in self.extensions

    @property
    def size_limit(self) -> int | None:
        """The largest message in octets; None where it is unlimited or untold (RFC 1870, 4.)."""
        return _number(self.extensions.get("SIZE", ""))

    @property
    def mails_limit(self) -> int | None:
        """How many mails it takes on one connection; None where it is untold (RFC 9422, 4.1)."""
        words = self.extensions.get("LIMITS", "").split()
        limits = dict(word.upper().split("=", 1) for word in words if "=" in word)
        return _number(limits.get("MAILMAX", ""))


def _number(digits: str) -> int | None:
    """A number of at most 20 digits; None for 0, and for what is no number."""
    return int(digits) or None if digits.isascii() and digits.isdigit() and len(digits) <= 20 else None


NONE = Capabilities({})  # of a smarthost that knows only HELO


def parse(ehlo: Reply) -> Capabilities:
    """From the reply to EHLO (RFC 5321, 4.1.1.1). `AUTH=PLAIN`, of servers before RFC 2554, counts as `AUTH PLAIN`."""
    extensions: dict[str, str] = {}
    for line in ehlo.text[1:]:
        keyword, _, parameters = line.strip().partition(" ")
        keyword = keyword.upper()
        if keyword.startswith("AUTH="):
            keyword, parameters = "AUTH", f"{keyword[5:]} {parameters}"
        extensions[keyword] = f"{extensions.get(keyword, '')} {parameters}".strip()
    return Capabilities(extensions)
