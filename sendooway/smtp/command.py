"""Commands (RFC 5321, 4.1): what a line says, and the lines we say to a smarthost."""

import re
from binascii import Error as Base64Error
from binascii import a2b_base64
from dataclasses import dataclass, field

from sendooway.smtp.regex import compiled

MAX_OCTETS = 512  # of a command line with its CR LF, RFC 5321, 4.5.3.1.4
# SIZE, BODY, SMTPUTF8, AUTH and the DSN parameters each allow a longer line (26, 17, 10, 500 and 600 octets).
MAX_OCTETS_OF = {"MAIL": 2048, "RCPT": 2048, "AUTH": 12288}

_VERB = r"[A-Za-z0-9-]+"
_WITH_UTF8 = frozenset({"MAIL", "RCPT", "VRFY", "EXPN"})


def beyond_ascii_and(characters: str) -> str:
    """A class of regular expressions: these characters of ASCII, and those beyond it that stand in addresses (RFC 6531,
    3.3, 3.7.4.2).

    Without the control characters C1, some of which some programs take for line ends, and without the KELVIN SIGN: its
    lower case is the letter k, so that an address with it would pass for another one in account files.

    The class says what is not in it: a range of nearly all of Unicode takes re 2 ms to compile.
    """
    others = "".join(character for character in map(chr, range(128)) if character not in characters)
    return f"[^{re.escape(others)}\x80-\x9f\u212a]"


_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
VISIBLE = _LETTERS + "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~"
_PRINTABLE_UTF8 = beyond_ascii_and(VISIBLE + " ") + "*"
# atext and dots: real addresses have dots where RFC 5321 wants none
_ATOM = beyond_ascii_and(_LETTERS + "!#$%&'*+/=?^_`{|}~.-") + "+"
_QTEXT = beyond_ascii_and(VISIBLE.replace('"', "").replace("\\", " "))
_QUOTED = rf'"(?:{_QTEXT}|\\[\x20-\x7e])*"'
_LABEL = beyond_ascii_and(_LETTERS + "_")
_DOMAIN = rf"{_LABEL}(?:{beyond_ascii_and(_LETTERS + '_.-')}*{_LABEL})?"
_LITERAL = r"\[[A-Za-z0-9:.-]+\]"
_MAILBOX = rf"(?:{_ATOM}|{_QUOTED})(?:@(?:{_DOMAIN}|{_LITERAL}))?"
# A source route must be accepted and should be ignored (RFC 5321, C.).
_PATH = rf"<(?:(?:@{beyond_ascii_and(_LETTERS + '_.,@-')}+:)?({_MAILBOX}))?>(?: +(.*))?"
_PARAMETER = rf"([A-Za-z0-9][A-Za-z0-9-]*)(?:=({beyond_ascii_and(VISIBLE.replace('=', ''))}+))?"
_CHUNK = r"([0-9]+)(?i: +(LAST))?"


class CommandError(Exception):
    """The line is no command we understand. `code`, `enhanced` and `text` are the reply to it, which quotes nothing."""

    def __init__(self, code: int, enhanced: str, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.enhanced = enhanced
        self.text = text


@dataclass(frozen=True)
class Command:
    """A line cut in two: the verb in capitals, and what follows its blanks."""

    verb: str
    argument: str = field(repr=False)  # of AUTH, it may hold a password


@dataclass(frozen=True)
class Envelope:
    """What follows `MAIL FROM:` or `RCPT TO:`. `address` is without brackets, empty for the null reverse-path;
    `parameters` have their keywords in capitals, and an empty value where there is none."""

    address: str
    parameters: dict[str, str]

    @property
    def is_ascii(self) -> bool:
        """It can be said to a server without SMTPUTF8."""
        return self.address.isascii() and all(map(str.isascii, self.parameters.values()))


@dataclass(frozen=True)
class Chunk:
    """What follows BDAT: how many octets come behind the line, and whether they are the last of the message."""

    size: int
    last: bool


def parse(line: bytes) -> Command:
    """The command in one line without CR LF.

    Raises CommandError 500 if the line has no verb, is too long for it (see MAX_OCTETS_OF), or has anything but
    printable ASCII, or printable UTF-8 where it may hold an address (RFC 6531).
    """
    try:
        text = line.decode()
    except UnicodeDecodeError:
        raise CommandError(500, "5.5.2", "Syntax error") from None
    match = compiled(_VERB).match(text)
    verb = match[0].upper() if match else ""
    if len(line) + 2 > MAX_OCTETS_OF.get(verb, MAX_OCTETS):
        raise CommandError(500, "5.5.2", "Line too long")
    if not verb or not _is_printable(text, verb):
        raise CommandError(500, "5.5.2", "Syntax error")
    return Command(verb, text[len(verb) :].strip(" "))


def _is_printable(text: str, verb: str) -> bool:
    if text.isascii():
        return text.isprintable()
    return verb in _WITH_UTF8 and compiled(_PRINTABLE_UTF8).fullmatch(text) is not None


def parse_mail(argument: str) -> Envelope:
    """The argument of MAIL: `FROM:<address> parameters`, blanks after the colon allowed. Raises CommandError 501."""
    return _envelope(argument, "FROM:", "5.1.7", may_be_null=True)


def parse_rcpt(argument: str) -> Envelope:
    """The argument of RCPT: `TO:<address> parameters`, blanks after the colon allowed. Raises CommandError 501."""
    return _envelope(argument, "TO:", "5.1.3", may_be_null=False)


def parse_bdat(argument: str) -> Chunk:
    """The argument of BDAT: `OCTETS [LAST]` (RFC 3030, 2.). Raises CommandError 501: then nobody knows where the
    octets behind the line end and where commands begin."""
    match = compiled(_CHUNK).fullmatch(argument)
    if match is None:
        raise CommandError(501, "5.5.4", "Syntax error, say BDAT, a number of octets, and LAST behind the last chunk")
    return Chunk(int(match[1]), match[2] is not None)


def _envelope(argument: str, keyword: str, bad_address: str, *, may_be_null: bool) -> Envelope:
    if argument[: len(keyword)].upper() != keyword:
        raise CommandError(501, "5.5.4", f"Syntax error, say {keyword}<address>")
    match = compiled(_PATH).fullmatch(argument[len(keyword) :].strip(" "))
    if match is None or not (match[1] or may_be_null):
        raise CommandError(501, bad_address, "Bad address syntax")
    parameters: dict[str, str] = {}
    for word in (match[2] or "").split():
        parameter = compiled(_PARAMETER).fullmatch(word)
        if parameter is None or parameter[1].upper() in parameters:
            raise CommandError(501, "5.5.4", "Bad or repeated parameter")
        parameters[parameter[1].upper()] = parameter[2] or ""
    return Envelope(match[1] or "", parameters)


def format_mail(envelope: Envelope) -> bytes:
    """The MAIL command with CR LF."""
    return _format("MAIL FROM", envelope)


def format_rcpt(envelope: Envelope) -> bytes:
    """The RCPT command with CR LF."""
    return _format("RCPT TO", envelope)


def format_bdat(chunk: Chunk) -> bytes:
    """The BDAT command with CR LF."""
    return b"BDAT %d%s\r\n" % (chunk.size, b" LAST" if chunk.last else b"")


def _format(start: str, envelope: Envelope) -> bytes:
    words = [f"{start}:<{envelope.address}>"]
    words += [f"{keyword}={value}" if value else keyword for keyword, value in envelope.parameters.items()]
    return " ".join(words).encode() + b"\r\n"


def parse_base64(text: bytes) -> bytes:
    """The octets of a SASL message; `=` alone is the empty one (RFC 4954, 4.). Raises CommandError 501."""
    if text == b"=":
        return b""
    try:
        return a2b_base64(text, strict_mode=True)
    except Base64Error:
        raise CommandError(501, "5.5.2", "Cannot decode base64") from None
