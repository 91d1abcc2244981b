"""What msmtp reads in its configuration file, as msmtp 1.8 has it.

A line is a command with its argument, which may stand in double quotes, or a comment, where `#` is its first sign. The
commands behind `account` set up that account, those behind `defaults` all accounts that come later, and those before
both the account `default`. `account B : A, C` begins with what was set for A and then C.
"""

import re
from dataclasses import dataclass, field

from sendooway.accounts.account import AccountsError
from sendooway.origin import Origin


@dataclass(frozen=True)
class Setting:
    """The argument of a command. It may be a password."""

    text: str = field(repr=False)
    origin: Origin


@dataclass(frozen=True)
class Section:
    """One account: its settings by command, with those that it takes over, the last of each command.

    `alias_of` is the only account that it takes them from and adds nothing to, if it is such a one.
    """

    name: str
    origin: Origin
    settings: dict[str, Setting]
    alias_of: str | None


ON, OFF = "on", "off"

_FLAG = r"|on|off"
_ANY = r"(?s:.*)"
_NUMBER = r"\+?(?:0[xX]0*[1-9a-fA-F][0-9a-fA-F]{0,7}|0+[1-7][0-7]{0,9}|[1-9][0-9]{0,9})"
_MECHANISMS = (
    *("plain", "cram-md5", "digest-md5", "scram-sha-1", "scram-sha-256", "gssapi", "external", "login", "ntlm"),
    *("oauthbearer", "xoauth2"),
)
_FACILITIES = "|".join(("MAIL", "USER", *(f"LOCAL{number}" for number in range(8))))
_CONDITION = "failure|delay|success"

# What the argument of each command may be, as a regular expression.
_ARGUMENTS = {
    **dict.fromkeys(("tls", "tls_starttls", "tls_certcheck", "auto_from", "keepbcc"), _FLAG),
    **dict.fromkeys(("undisclosed_recipients", "remove_bcc_headers"), _FLAG),
    **dict.fromkeys(("add_missing_from_header", "add_missing_date_header"), _FLAG),
    **dict.fromkeys(("tls_nocertcheck", "tls_nostarttls"), ""),
    **dict.fromkeys(("logfile", "logfile_time_format", "aliases", "proxy_host", "socket", "source_ip"), _ANY),
    **dict.fromkeys(("maildomain", "ntlmdomain", "domain", "user", "password", "passwordeval", "from"), _ANY),
    **dict.fromkeys(("tls_trust_file", "tls_crl_file", "tls_key_file", "tls_cert_file", "tls_priorities"), _ANY),
    **dict.fromkeys(("tls_host_override", "tls_force_sslv3"), _ANY),
    **dict.fromkeys(("timeout", "connect_timeout"), f"off|{_NUMBER}"),
    **dict.fromkeys(("set_date_header", "set_msgid_header"), "|auto|off"),
    "host": r"(?s:.+)",
    "eval": r"(?s:.+)",
    "port": _NUMBER,
    "proxy_port": f"|{_NUMBER}",
    "tls_min_dh_prime_bits": f"|{_NUMBER}",
    "tls_fingerprint": r"|[0-9a-fA-F]{2}(?:(?::[0-9a-fA-F]{2}){15}|(?::[0-9a-fA-F]{2}){19}|(?::[0-9a-fA-F]{2}){31})",
    "auth": "|".join((_FLAG, *_MECHANISMS)),
    "protocol": "smtp|lmtp",
    "allow_from_override": "on|off",
    "set_from_header": _FLAG + "|auto",
    # Each condition once.
    "dsn_notify": rf"off|never|(?!.*({_CONDITION}).*\1)(?:{_CONDITION})(?:,(?:{_CONDITION}))*",
    "dsn_return": "off|headers|full",
    "syslog": f"{_FLAG}|LOG_(?:{_FACILITIES})",
}

COMMANDS = frozenset(_ARGUMENTS)

# Whose argument is a number that is a port, too.
_PORTS = ("port", "proxy_port")

# With these an empty argument means `on`.
_FLAGS = frozenset(name for name, argument in _ARGUMENTS.items() if argument.startswith(_FLAG))

_BLANKS = " \t\r\n"

_DEFAULT = "default"


def parse(text: str, file: str) -> tuple[Section, ...]:
    """The accounts as written. `text` is decoded from UTF-8 with `surrogateescape`.

    Raises AccountsError, with the line, for what msmtp itself would not read.
    """
    return _Parser(file).file(text)


class _Parser:
    def __init__(self, file: str) -> None:
        self.name = file
        self.sections: dict[str, Section] = {}
        self.defaults: dict[str, Setting] = {}
        self.current: dict[str, Setting] | None = None

    def file(self, text: str) -> tuple[Section, ...]:
        for number, line in enumerate(text.split("\n"), start=1):
            content = line.strip(_BLANKS)
            if content and not content.startswith("#"):
                command, *rest = re.split(r"[ \t]+", content, maxsplit=1)
                self.command(command, _unquoted(rest[0]) if rest else "", Origin(self.name, number))
        return tuple(self.sections.values())

    def command(self, command: str, argument: str, origin: Origin) -> None:
        match command:
            case "account":
                self.account(argument, origin)
            case "defaults":
                if argument:
                    raise AccountsError(origin, "`defaults` takes no argument")
                self.current = self.defaults
            case _:
                if command not in _ARGUMENTS:
                    raise AccountsError(origin, "msmtp knows no such command")
                valid = re.fullmatch(_ARGUMENTS[command], argument)
                if not valid or (command in _PORTS and argument and number(argument) > 65535):
                    raise AccountsError(origin, f"`{command}` has a wrong argument, or none")
                if self.current is None:
                    self.account(_DEFAULT, origin)
                assert self.current is not None
                self.current[command] = Setting(ON if command in _FLAGS and not argument else argument, origin)
                self.own(command)

    def account(self, argument: str, origin: Origin) -> None:
        name, colon, rest = argument.partition(":")
        name = _unquoted(name.strip(_BLANKS))
        parents = [_unquoted(parent.strip(_BLANKS)) for parent in rest.split(",")] if colon else []
        if not name or "" in parents:
            raise AccountsError(origin, "the name of an account is missing")
        if "," in name or any(":" in parent for parent in parents):
            raise AccountsError(origin, "the name of an account must not have a colon or comma")
        if name in self.sections:
            raise AccountsError(origin, "this account was already defined")
        settings = dict(self.defaults)
        for parent in parents:
            if parent not in self.sections:
                raise AccountsError(origin, "an account takes over from another that is not (yet) defined")
            settings |= self.sections[parent].settings
        alias_of = parents[0] if len(parents) == 1 else None
        self.sections[name] = Section(name, origin, settings, alias_of)
        self.current = settings

    def own(self, command: str) -> None:
        """The current account has something of its own."""
        if self.current is self.defaults or not self.sections:
            return
        name = next(reversed(self.sections))
        section = self.sections[name]
        if section.alias_of is not None and section.settings is self.current:
            self.sections[name] = Section(name, section.origin, section.settings, None)


def number(argument: str) -> int:
    """The number that an argument stands for: as in C, octal behind a 0 and hexadecimal behind 0x."""
    digits = argument.removeprefix("+").lower()
    return int(digits, 16 if digits.startswith("0x") else 8 if digits.startswith("0") else 10)


def _unquoted(text: str) -> str:
    return text[1:-1] if len(text) > 1 and text.startswith('"') and text.endswith('"') else text
