"""`sendooway accounts`: every identity that the user's files give."""

import os
import sys
from collections.abc import Sequence
from dataclasses import replace

from sendooway import sasl
from sendooway.accounts.account import Account, Credentials, Unusable
from sendooway.accounts.entry import Entry, Problem, Retriever
from sendooway.auth.identity import Identity
from sendooway.commands.command_line import CommandLine, Syntax
from sendooway.commands.output import show, show_json, terminal
from sendooway.commands.reading import Reading, missing_password, problems, read_all
from sendooway.commands.situation import Situation, survey, tilde, who_asks
from sendooway.commands.table import Cell, Colour, Terminal, paragraph, printable, table, warnings
from sendooway.config import Mapping
from sendooway.options import UsageError
from sendooway.origin import Origin
from sendooway.privsep.password import PasswordError, Passwords
from sendooway.privsep.smarthost_login import mechanisms
from sendooway.secret import Secret

HELP = """\
Usage: sendooway accounts [--source SOURCE:ARGUMENT]... [OPTION]...
Show every identity that your account files give, and what is wrong with them.

      --source SOURCE:ARGUMENT
                      read this instead of what the configuration names, as in
                      --source fetchmail:.fetchmailrc; may be repeated
  -c, --config FILE   the configuration (default: /etc/sendooway.conf, or the
                      defaults where you may not read it)
      --json          a list of objects, one for each account and each mailbox
                      without one
      --show-secrets  with --json: passwords, too
  -h, --help          show this help, and end

Exit status: 0; 64 for a wrong command line; 65 for a file that cannot be used,
with `FILE:LINE: reason` on standard error; 78 for a wrong configuration.
"""

SYNTAX = Syntax(("source=", "show-secrets"))


def run(line: CommandLine) -> int:
    if line.has("show-secrets") and not line.has("json"):
        raise UsageError("--show-secrets belongs to --json")
    user = who_asks()
    situation = survey(line.value("config"), user)
    if line.has("source"):
        named = tuple(_mapping(text, number, user) for number, text in enumerate(line.values("source"), 1))
        situation = replace(situation, mappings=named, notes=())
    readings = read_all(situation)
    errors = [str(reading.error) for reading in readings if reading.error]
    if line.has("source"):
        searched = (each for reading in readings for each in reading.listing.searched)
        errors += [f"{each.name}: {each.absent}" for each in searched if each.absent]
    told = problems(readings, situation)
    if line.has("json"):
        objects = as_objects(readings, situation.passwords, secrets=line.has("show-secrets"))
        show_json(objects, (*situation.notes, *told))
    else:
        show(as_text(situation, readings, told, terminal(sys.stdout)))
    show([printable(error) for error in errors], sys.stderr)
    return os.EX_DATAERR if errors else os.EX_OK


def _mapping(text: str, number: int, user: Identity) -> Mapping:
    """The mapping that --source gives. Its path may be relative, as for other programs. Raises UsageError."""
    source, colon, argument = text.partition(":")
    if not colon or not source or not argument:
        raise UsageError("--source: SOURCE:ARGUMENT would be right, as in fetchmail:.fetchmailrc")
    if source.lower() != "direct" and not argument.startswith("%"):
        path = os.path.join(user.home, argument[2:]) if argument.startswith("~/") else argument
        # The slash at the end says that a folder is meant.
        folder = "/" if path.endswith("/") else ""
        argument = f"{os.path.abspath(path).rstrip('/')}{folder}".replace("%", "%%")
    return Mapping(source.lower(), Secret(os.fsencode(argument)), Origin("--source", number))


def as_objects(readings: Sequence[Reading], passwords: Passwords, *, secrets: bool) -> list[dict[str, object]]:
    """What --json prints."""
    return [
        _object(reading.mapping.source, entry, passwords, secrets)
        for reading in readings
        for entry in reading.listing.entries
    ]


def _object(source: str, entry: Entry, passwords: Passwords, secrets: bool) -> dict[str, object]:
    account, usable = _account(entry)
    credentials = account.credentials if account else None
    members: dict[str, object] = {
        "source": source,
        "file": entry.origin.file,
        "line": entry.origin.line,
        "addresses": list(entry.patterns),
        "server": account.host if account else None,
        "port": account.port if account else None,
        "security": account.security.value if account else None,
        "username": _username(entry) or None,
        "has_password": credentials is not None and missing_password(credentials, passwords) is None,
        "no_cert_check": bool(account and not account.check_certificate),
        "gssapi": bool(account and account.gssapi),
        "usable": usable,
        "problem": entry.account.reason if isinstance(entry.account, Unusable) else None,
    }
    if secrets:
        members["password"] = _password(credentials, passwords) if credentials else None
    members["retriever"] = _retriever(entry.retriever, secrets) if entry.retriever else None
    return members


def _password(credentials: Credentials, passwords: Passwords) -> str | None:
    """The password as text, None where it cannot be had now."""
    try:
        return _text(passwords.fetch(credentials.password))
    except PasswordError:
        return None


def _retriever(retriever: Retriever, secrets: bool) -> dict[str, object]:
    port = retriever.port
    members: dict[str, object] = {
        "server": retriever.server,
        "via": retriever.via,
        "port": int(port) if port and port.isascii() and port.isdigit() else port,
        "protocol": retriever.protocol,
        "ssl": retriever.ssl,
        "username": retriever.username,
        "has_password": retriever.password is not None,
        "local_names": [name if isinstance(name, str) else list(name) for name in retriever.local_names],
    }
    if secrets:
        members["password"] = _text(retriever.password) if retriever.password else None
    return members


def _text(secret: Secret) -> str:
    return secret.octets.decode("utf-8", "surrogateescape")


def as_text(
    situation: Situation, readings: Sequence[Reading], told: Sequence[Problem], terminal: Terminal
) -> list[str]:
    """What is printed for people."""
    entries = [entry for reading in readings for entry in reading.listing.entries]
    annotated = [entry for entry in entries if entry.account]
    rows = [row for number, entry in enumerate(annotated, 1) for row in _rows(number, entry, situation)]
    lines = table(("sender", "#", "smarthost", "security", "login", "mechanism", "file"), rows, terminal)
    if not rows:
        searched = [tilde(str(each), situation.user) for reading in readings for each in reading.listing.searched]
        lines = paragraph("No sender has an account. Searched: " + (", ".join(searched) or "nothing"), terminal, "  ")
    bare = [entry for entry in entries if entry.account is None and entry.retriever]
    if bare:
        text = "Mailboxes without a smarthost, for which `sendooway discover` looks for one:"
        rows = [_mailbox(entry, situation.user) for entry in bare]
        lines += ["", *paragraph(text, terminal), *table(("mailbox", "user name", "file"), rows, terminal)]
    texts = [f"{tilde(str(problem.origin), situation.user)}: {problem.text}" for problem in told]
    return lines + warnings((*situation.notes, *texts), terminal)


def _rows(number: int, entry: Entry, situation: Situation) -> list[list[Cell]]:
    account, usable = _account(entry)
    assert account
    ways = Cell(_summary(mechanisms(account, situation.settings))) if usable else Cell("unusable", Colour.RED)
    shared = [
        Cell(f"{number}"),
        Cell(f"{account.host}:{account.port}"),
        _security(account),
        Cell(_username(entry)),
        ways,
        Cell(tilde(str(entry.origin), situation.user)),
    ]
    return [[Cell(address), *shared] for address in account.patterns]


def _security(account: Account) -> Cell:
    if account.certificate_sha256:
        return Cell(f"{account.security.value}, by fingerprint")
    if not account.check_certificate:
        return Cell(f"{account.security.value}, unchecked", Colour.YELLOW)
    return Cell(account.security.value)


def _summary(mechanisms: Sequence[str]) -> str:
    """Short, so that the table fits: all that take a password are seldom told apart."""
    words = [name for name in mechanisms if name not in sasl.CLIENTS]
    having = [name for name in mechanisms if name in sasl.CLIENTS]
    words += ["password"] if len(having) == len(sasl.CLIENTS) else having
    return " ".join(words) or "no login"


def _mailbox(entry: Entry, user: Identity) -> list[Cell]:
    assert entry.retriever
    return [
        Cell(f"{entry.retriever.server} ({entry.retriever.protocol})"),
        Cell(entry.retriever.username or ""),
        Cell(tilde(str(entry.origin), user)),
    ]


def _account(entry: Entry) -> tuple[Account | None, bool]:
    """What is known of the account, and whether it can serve."""
    match entry.account:
        case Account() | None:
            return entry.account, entry.account is not None
        case unusable:
            return unusable.account, False


def _username(entry: Entry) -> str:
    match entry.account:
        case None:
            return ""
        case Account() as account:
            return account.credentials.username if account.credentials else ""
        case unusable:
            return unusable.username
