"""What a smarthost offers, and how a client's envelope is made to fit it."""

import re
from dataclasses import dataclass

from sendooway.smtp.command import Envelope
from sendooway.smtp.reply import Reply, reply

# Who offers more means to exhaust us. Names are RFC 4422's, 3.1.
MOST_MECHANISMS = 64
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
        """In capitals, each once, no more than MOST_MECHANISMS of them."""
        offered = self.extensions.get("AUTH", "").upper().split()
        return tuple(dict.fromkeys(filter(_MECHANISM.fullmatch, offered)))[:MOST_MECHANISMS]

    @property
    def size_limit(self) -> int | None:
        """The largest message in octets; None where it is unlimited or untold (RFC 1870, 4.)."""
        limit = self.extensions.get("SIZE", "")
        return int(limit) or None if limit.isascii() and limit.isdigit() and len(limit) <= 20 else None


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


def adapt_mail(
    mail: Envelope, capabilities: Capabilities, *, eight_bit_needed: bool, size_limit: int | None, added: int
) -> Envelope | Reply:
    """MAIL as it goes to this smarthost, or the reply that refuses it.

    `eight_bit_needed`: a message declared as 8-bit goes only to a smarthost with 8BITMIME (RFC 6152). `size_limit` is
    our own in octets, None where there is none; `added` is how many octets we put in front of the message.
    """
    parameters: dict[str, str] = {}
    for keyword, value in mail.parameters.items():
        match keyword:
            case "SIZE":
                if not value.isdigit() or len(value) > 20:
                    return reply(501, "5.5.4", "Bad SIZE")
                if size_limit is not None and int(value) > size_limit:
                    return reply(552, "5.3.4", f"Message too large, the limit is {size_limit} octets")
                theirs = capabilities.size_limit
                if theirs is not None and int(value) + added > theirs:
                    return reply(552, "5.3.4", f"Message too large for the smarthost, its limit is {theirs} octets")
                if "SIZE" in capabilities.extensions:
                    parameters["SIZE"] = str(int(value) + added)
            case "BODY":
                if value.upper() not in ("7BIT", "8BITMIME"):
                    return reply(501, "5.5.4", "Bad BODY, say 7BIT or 8BITMIME")
                if "8BITMIME" in capabilities.extensions:
                    parameters["BODY"] = value.upper()
                elif value.upper() == "8BITMIME" and eight_bit_needed:
                    return reply(554, "5.6.3", "The smarthost takes no 8-bit messages")
            case "AUTH":
                pass  # who wrote the message (RFC 4954, 5.): the smarthost relies on the account that logs in
            case _:
                return reply(555, "5.5.4", f"Unknown parameter {keyword}")
    return Envelope(mail.address, parameters)


def adapt_rcpt(rcpt: Envelope) -> Envelope | Reply:
    """RCPT as it goes to a smarthost, or the reply that refuses it."""
    for keyword in rcpt.parameters:
        return reply(555, "5.5.4", f"Unknown parameter {keyword}")
    return rcpt
