"""`sendooway explain`: the pattern that decides which account serves a sender, and what was searched before it."""

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace

from sendooway.accounts import pattern
from sendooway.accounts.account import Account, Unusable
from sendooway.accounts.lookup import select
from sendooway.accounts.mailbox import is_mailbox_of
from sendooway.commands.command_line import CommandLine, Syntax
from sendooway.commands.output import show, show_json, terminal
from sendooway.commands.reading import Reading, read_all
from sendooway.commands.situation import Situation, survey, tilde, who_asks
from sendooway.commands.table import Colour, Terminal, marked, paragraph, printable, warnings
from sendooway.privsep.smarthost_login import mechanisms

HELP = """\
Usage: sendooway explain [OPTION]... ADDRESS
Say which account serves the sender ADDRESS (<> for the null reverse-path), by
which pattern, and what was searched before it in vain.

  -c, --config FILE   the configuration (default: /etc/sendooway.conf, or the
                      defaults where you may not read it)
      --json          an object
  -h, --help          show this help, and end

Exit status: 0; 1 if no account serves it; 64 for a wrong command line; 65 for a
file or account that cannot be used, so that the mail is refused; 78 for a wrong
configuration.
"""

SYNTAX = Syntax(fewest=1, most=1)

NOBODY = 1  # the exit status where no account serves the sender

_PATTERNS_SHOWN = 5


@dataclass(frozen=True)
class Explanation:
    """Which account serves a sender, and why. `vain` has, for each source searched before it, its name and why it does
    not match. `pattern` is the one that matches, with its meaning. `reason` says why there is no account, or why it
    cannot be used, empty where it can. `status` is the exit status."""

    vain: tuple[tuple[str, str], ...]
    account: Account | None
    pattern: str
    reason: str
    status: int


def run(line: CommandLine) -> int:
    situation = survey(line.value("config"), who_asks())
    address = line.arguments[0]
    readings = read_all(situation)
    explanation = explain("" if address == "<>" else address, readings)
    if explanation.status == NOBODY and situation.settings.guess_accounts:
        explanation = _with_guess(explanation, address, readings)
    if line.has("json"):
        show_json(as_object(address, explanation), situation.notes)
    else:
        show(as_text(address, explanation, situation, terminal(sys.stdout)))
    return explanation.status


def explain(reverse_path: str, readings: Sequence[Reading]) -> Explanation:
    """What a look-up of this reverse-path (empty: the null one) would find, by the rules of accounts/lookup.py."""
    vain: list[tuple[str, str]] = []
    for reading in readings:
        if reading.error is not None:
            return Explanation(tuple(vain), None, "", str(reading.error), os.EX_DATAERR)
        accounts = [entry.account for entry in reading.listing.entries if entry.account]
        match select(reverse_path, accounts):
            case None:
                vain += _vain(reading, accounts)
            case Account() as account:
                return Explanation(tuple(vain), account, _matched(reverse_path, account.patterns), "", os.EX_OK)
            case Unusable() as unusable:
                matched = _matched(reverse_path, unusable.patterns)
                reason = f"{unusable.origin}: {unusable.reason}"
                return Explanation(tuple(vain), unusable.account, matched, reason, os.EX_DATAERR)
    if reverse_path:
        reason = "no account serves this sender: its mails are refused"
    else:
        reason = "no account has the pattern <> or *: the null reverse-path goes where the session's last mail went"
    return Explanation(tuple(vain), None, "", reason, NOBODY)


def _with_guess(explanation: Explanation, address: str, readings: Sequence[Reading]) -> Explanation:
    """What guessAccounts makes of a sender whom no account serves."""
    for reading in readings:
        for entry in reading.listing.entries:
            if is_mailbox_of(address, entry):
                reason = (
                    f"{entry.origin} is the mailbox of this sender, without a smarthost: guessAccounts looks for one "
                    f"at MAIL, as `sendooway discover {address}` does; without it the mail is refused"
                )
                return replace(explanation, reason=reason)
    return explanation


def _vain(reading: Reading, accounts: Sequence[Account | Unusable]) -> list[tuple[str, str]]:
    patterns = [address for account in accounts for address in account.patterns]
    bare = sum(entry.account is None for entry in reading.listing.entries)
    if patterns:
        more = f", and {len(patterns) - _PATTERNS_SHOWN} more" if len(patterns) > _PATTERNS_SHOWN else ""
        why = f"has only {', '.join(patterns[:_PATTERNS_SHOWN])}{more}"
    elif reading.mapping.source == "netrc":
        why = "has logins for the accounts of other sources only"
    elif bare:
        why = f"has {bare} mailbox{'es' if bare > 1 else ''}, and no smarthost for any sender"
    else:
        why = "has no account"
    # Of a file that is not there, the name says so.
    return [(searched.name, searched.absent or why) for searched in reading.listing.searched]


def _matched(reverse_path: str, patterns: Sequence[str]) -> str:
    """Which pattern matches, and in which of the ways, the best of them."""
    served = {address.lower(): address for address in patterns}
    matched = next(address for address in pattern.matching(reverse_path) if address in served)
    match matched:
        case "*":
            why = "every sender"
        case "<>":
            why = "the null reverse-path"
        case domain if domain.startswith("*@"):
            why = "every sender of the domain"
        case exact if exact == reverse_path.lower():
            why = "the address itself"
        case _:
            why = "the address without what follows its +"
    return f"{served[matched]} ({why})"


def as_object(address: str, explanation: Explanation) -> dict[str, object]:
    """What --json prints."""
    account = explanation.account
    return {
        "address": address,
        "pattern": explanation.pattern or None,
        "file": account.origin.file if account else None,
        "line": account.origin.line if account else None,
        "server": account.host if account else None,
        "port": account.port if account else None,
        "security": account.security.value if account else None,
        "username": account.credentials.username if account and account.credentials else None,
        "searched": [{"source": source, "outcome": why} for source, why in explanation.vain],
        "problem": explanation.reason or None,
    }


def as_text(address: str, explanation: Explanation, situation: Situation, terminal: Terminal) -> list[str]:
    """What is printed for people."""
    user, account = situation.user, explanation.account
    lines = [printable(f"Sender {address}")]
    for source, why in explanation.vain:
        lines += marked("-", Colour.NONE, f"{tilde(source, user)}: {why}", terminal)
    if account is not None:
        place = tilde(str(account.origin), user)
        lines += marked("=", Colour.GREEN, f"{place}: matches {explanation.pattern}", terminal)
    if account is not None and not explanation.reason:
        login = account.credentials.username if account.credentials else user.name if account.gssapi else ""
        how = f" as {login} ({' '.join(mechanisms(account, situation.settings))})" if login else ", without login"
        text = f"goes to {account.host}:{account.port}, {_secured(account)}{how}"
        lines += paragraph(f"  {printable(text)}", terminal, "  ")
    if explanation.reason:
        lines += marked("!", Colour.RED, tilde(explanation.reason, user), terminal)
    if explanation.status == os.EX_DATAERR:
        lines.append("  As long as it is so, mails of this sender are refused.")
    return lines + warnings(situation.notes, terminal)


def _secured(account: Account) -> str:
    return account.security.value if account.check_certificate else f"{account.security.value}, certificate unchecked"
