"""The words of fetchmail's run control file: its scanner, and what may stand behind each keyword.

The longest match wins: a quoted string that goes on without a blank is a word, with its quotes. Behind `user`, `pass`,
`is`, `to` and `=` each word is a string.
"""

import re
from collections.abc import Iterator
from enum import Enum, auto


class Kind(Enum):
    """The tokens that are no keywords. A keyword's kind is its main spelling, `no keep` and `nokeep` are one."""

    STRING = auto()
    NUMBER = auto()
    PROTOCOL = auto()
    AUTHENTICATION = auto()
    EQUALS = auto()
    ANNOTATION = auto()
    UNENDED_COMMENT = auto()
    END = auto()


class Argument(Enum):
    """What follows the keyword of an option: the words for it in messages, and the tokens that it may be."""

    def __init__(self, words: str, *kinds: Kind | str) -> None:
        self.words = words
        self.kinds = kinds

    NOTHING = ("nothing",)
    STRING = ("a string", Kind.STRING)
    STRINGS = ("strings", Kind.STRING)
    NUMBER = ("a number", Kind.NUMBER)
    NUMBERS = ("numbers", Kind.NUMBER)
    PORT = ("a port number from 1 to 65535", Kind.NUMBER)
    SERVICE = ("a port number from 1 to 65535 or a service", Kind.NUMBER, Kind.STRING)
    INTERFACE = ("an interface with its address, as in eth0/192.0.2.1", Kind.STRING)
    ENVELOPE = ("the name of a header field", Kind.STRING)
    PROTOCOL = ("the name of a protocol", Kind.PROTOCOL)
    AUTHENTICATION = ("a way to authenticate", Kind.AUTHENTICATION)
    POLICY = ("`accept` or `reject`", "accept", "reject")


def _flags(*names: str) -> dict[str, Argument]:
    return dict.fromkeys([*names, *(f"no {name}" for name in names)], Argument.NOTHING)


GLOBAL_OPTIONS = {
    **dict.fromkeys(("logfile", "idfile", "pidfile", "postmaster", "properties"), Argument.STRING),
    **_flags("bouncemail", "spambounce", "softbounce", "syslog", "invisible", "showdots"),
    "daemon": Argument.NUMBER,
}

SERVER_OPTIONS = {
    **dict.fromkeys(
        ("via", "principal", "esmtpname", "esmtppassword", "qvirtual", "monitor", "plugin", "plugout"),
        Argument.STRING,
    ),
    **dict.fromkeys(("aka", "localdomains"), Argument.STRINGS),
    **dict.fromkeys(("interval", "timeout"), Argument.NUMBER),
    **_flags("uidl", "checkalias", "dns", "tracepolls"),
    "interface": Argument.INTERFACE,
    "protocol": Argument.PROTOCOL,
    "port": Argument.PORT,
    "service": Argument.SERVICE,
    "auth": Argument.AUTHENTICATION,
    "envelope": Argument.ENVELOPE,
    "no envelope": Argument.NOTHING,
    "bad-header": Argument.POLICY,
}

USER_OPTIONS = {
    **dict.fromkeys(
        (
            *("pass", "passwordfile", "smtpaddress", "smtpname", "mda", "bsmtp", "pre", "post", "properties"),
            *("sslkey", "sslcert", "sslproto", "sslcertfile", "sslcertpath", "sslcommonname", "sslfingerprint"),
        ),
        Argument.STRING,
    ),
    **dict.fromkeys(("folder", "smtphost", "fetchdomains"), Argument.STRINGS),
    **dict.fromkeys(
        ("limit", "warnings", "fetchlimit", "fetchsizelimit", "fastuidl", "batchlimit", "expunge"), Argument.NUMBER
    ),
    **_flags("keep", "flush", "limitflush", "fetchall", "rewrite", "forcecr", "stripcr", "pass8bits", "dropstatus"),
    **_flags("dropdelivered", "mimedecode", "idle", "ssl", "sslcertck"),
    "lmtp": Argument.NOTHING,
    "antispam": Argument.NUMBERS,
}

_SPELLINGS = {
    "server": "poll",
    "local": "localdomains",
    "proto": "protocol",
    "authenticate": "auth",
    "preauth": "auth",
    "preauthenticate": "auth",
    "username": "user",
    "password": "pass",
    "folders": "folder",
    "smtp": "smtphost",
    "preconnect": "pre",
    "postconnect": "post",
    "pass8": "pass8bits",
    "mimedec": "mimedecode",
}

# The words that may be written together with their `no`. fetchmail knows no others, not even `nossl`.
_JOINED = (
    *("bouncemail", "spambounce", "uidl", "checkalias", "dns", "envelope", "keep", "flush", "limitflush", "fetchall"),
    *("rewrite", "forcecr", "stripcr", "pass8", "pass8bits", "dropstatus", "dropdelivered", "mimedec", "mimedecode"),
    "idle",
)

_PROTOCOLS = ("auto", "pop2", "sdps", "pop3", "imap", "apop", "rpop", "etrn", "odmr", "kpop")

# With these, and with ETRN, fetchmail takes the user's name for a password that is missing.
PASSWORDLESS = ("gssapi", "kerberos_v5", "kerberos5", "ssh", "external", "otp", "opie")

_AUTHENTICATIONS = ("any", *PASSWORDLESS, "cram", "cram-md5", "msn", "ntlm")

_NOISE = frozenset(("with", "and", "has", "wants", "options"))

KEYWORDS: dict[str, Kind | str] = {
    **{
        name: name
        for name in (
            *("set", "poll", "skip", "defaults", "user", "is", "to", "here", "there", "no", "accept", "reject"),
            *GLOBAL_OPTIONS,
            *SERVER_OPTIONS,
            *USER_OPTIONS,
        )
    },
    **_SPELLINGS,
    **{f"no{name}": f"no {_SPELLINGS.get(name, name)}" for name in _JOINED},
    **dict.fromkeys(_PROTOCOLS, Kind.PROTOCOL),
    **dict.fromkeys((name.upper() for name in _PROTOCOLS), Kind.PROTOCOL),
    **dict.fromkeys(_AUTHENTICATIONS, Kind.AUTHENTICATION),
}

# The longest match wins: what begins with a quoted string and goes on without a blank is a word, with its quotes.
_TOKEN = re.compile(
    r"""
    (?: [;:,\ \t\r\n] | \\\n )*+
    (?: (?P<comment> \# [^\n]*+ \n )
      | (?P<quoted> " [^"=;:,\ \t\r\n]*+ (?: [^"] [^"]*+ " | " (?! [^=;:,\ \t\r\n] ) )
                  | ' [^'=;:,\ \t\r\n]*+ (?: [^'] [^']*+ ' | ' (?! [^=;:,\ \t\r\n] ) ) )
      | (?P<word> [^=;:,\ \t\r\n]++ )
      | (?P<equals> = )
      | (?P<end> \Z )  # or else the search would begin anew at each of the last blanks
    )""",
    re.VERBOSE,
)

_ANNOTATION = "#sendooway:"

_ESCAPE = re.compile(r"\\(?:[xX]([0-9a-fA-F]{0,2})|(0[0-7]{0,2})|([1-9][0-9]{0,2})|(\n)|(.)|\Z)", re.DOTALL)

_CONTROLS = {"n": "\n", "t": "\t", "b": "\b", "r": "\r"}


def _unescape(raw: str) -> str:
    """What a string means. For fetchmail it ends at a NUL, as C's strings do."""
    if "\\" in raw:
        # An escape stands for one octet, and several may make up one character.
        raw = _ESCAPE.sub(_escaped, raw).encode("utf-8", "surrogateescape").decode("utf-8", "surrogateescape")
    return raw.partition("\0")[0]


def _escaped(match: re.Match[str]) -> str:
    hexadecimal, octal, decimal, _, character = match.groups()
    if hexadecimal is not None:
        octet = int(hexadecimal or "0", 16)
    elif octal is not None:
        octet = int(octal, 8)
    elif decimal is not None:
        octet = int(decimal) & 0xFF
    else:
        return _CONTROLS.get(character, character) if character else ""
    return bytes((octet,)).decode("utf-8", "surrogateescape")


def scan(text: str) -> Iterator[tuple[Kind | str, str, int]]:
    """The tokens of a file as (kind, string or spelling, offset in `text`); the last one is END."""
    string_next = authentication_next = negated = False
    for match in _TOKEN.finditer(text):
        group = match.lastgroup or ""
        raw = match[group]
        offset = match.start(group)
        kind: Kind | str
        if group == "word" and raw[0] == "#" and text[offset : offset + len(_ANNOTATION)].lower() == _ANNOTATION:
            kind = Kind.UNENDED_COMMENT
        elif group == "word" and not string_next:
            if raw in _NOISE:
                continue
            kind = KEYWORDS.get(raw, Kind.STRING)
            if kind == "pass" and authentication_next and raw == "password":
                kind = Kind.AUTHENTICATION
            elif kind is Kind.STRING:
                if _is_number(raw):
                    kind = Kind.NUMBER
                else:
                    raw = _unescape(raw)
        elif group == "word":
            kind, raw = Kind.STRING, _unescape(raw)
        elif group == "quoted":
            kind, raw = Kind.STRING, _unescape(raw[1:-1])
        elif group == "equals":
            kind = Kind.EQUALS
        elif group == "comment":
            if raw[: len(_ANNOTATION)].lower() == _ANNOTATION:
                yield Kind.ANNOTATION, raw[len(_ANNOTATION) :], offset
            continue
        else:
            continue
        if kind == "no" and not negated:
            negated = True
            continue
        string_next = kind in ("user", "pass", "is", "to", Kind.EQUALS)
        authentication_next = kind == "auth"
        yield (f"no {kind}" if negated else kind), raw, offset
        negated = False
    yield ("no" if negated else Kind.END), "", len(text)


def _is_number(word: str) -> bool:
    return word.isascii() and word.removeprefix("-").isdigit()
