"""`sendooway check`: try each account out, all of them side by side, without sending a mail."""

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from threading import Lock

from sendooway.accounts.account import Account
from sendooway.accounts.lookup import expand
from sendooway.auth.identity import Identity
from sendooway.commands.command_line import CommandLine, Syntax
from sendooway.commands.explain import explain
from sendooway.commands.output import show, show_json, terminal
from sendooway.commands.reading import Reading, read_all
from sendooway.commands.situation import Situation, survey, tilde, who_asks
from sendooway.commands.table import Cell, Colour, Terminal, marked, printable, table, warnings
from sendooway.commands.trial import Phase, Results, Verdict, Way, try_out
from sendooway.net.together import together
from sendooway.origin import Origin
from sendooway.privsep.password import PasswordError

HELP = """\
Usage: sendooway check [OPTION]... [ADDRESS]...
Try out the accounts of these senders, or all of yours: reach the smarthost,
check its certificate, log in, and say MAIL and RSET. No mail is sent.

  -c, --config FILE   the configuration (default: /etc/sendooway.conf, or the
                      defaults where you may not read it)
      --json          a list of objects, one for each account
  -h, --help          show this help, and end

Exit status: 0 if all is well; 1 if anything fails; 64 for a wrong command line;
65 for a file that cannot be used; 78 for a wrong configuration.
"""

MAX_ADDRESSES = 100
SYNTAX = Syntax(most=MAX_ADDRESSES)

_MAX_SENDERS = 20  # of one account with which MAIL is said

_COLOURS = {Verdict.GOOD: Colour.GREEN, Verdict.DOUBTFUL: Colour.YELLOW, Verdict.BAD: Colour.RED}


@dataclass(frozen=True)
class Candidate:
    """An account to be tried: `title` names it to the user, `senders` are those that MAIL is said with. `problem` is
    why it cannot be tried at all, empty where it can; `account` None: there is none."""

    title: str
    senders: tuple[str, ...]
    account: Account | None
    problem: str = ""


@dataclass(frozen=True)
class Report:
    """A candidate and what came of it."""

    candidate: Candidate
    results: Results

    @property
    def good(self) -> bool:
        return not self.candidate.problem and all(result.verdict is not Verdict.BAD for result in self.results.values())


def run(line: CommandLine) -> int:
    situation = survey(line.value("config"), who_asks())
    readings = read_all(situation)
    candidates = [_of_address(address, readings) for address in line.arguments] or _of_all(readings)
    errors = [] if line.arguments else [str(reading.error) for reading in readings if reading.error]
    reports = _try_all([_with_password(one, situation) for one in candidates], _way(situation))
    if line.has("json"):
        show_json([as_object(report) for report in reports], situation.notes)
    else:
        show(as_text(reports, situation, terminal(sys.stdout)))
    show([printable(error) for error in errors], sys.stderr)
    if not all(report.good for report in reports) or not (reports or errors):
        return 1
    return os.EX_DATAERR if errors else os.EX_OK


def _way(situation: Situation) -> Way:
    """How to try accounts. Raises ConfigurationError for trusted certificates that an agent could not use either."""
    settings, user = situation.settings, situation.user
    keytab = expand(settings.krb5_client_keytab, user, Origin("krb5ClientKeytab", 0))
    return Way(user, settings, situation.trusted(), situation.passwords, keytab)


def _of_address(address: str, readings: Sequence[Reading]) -> Candidate:
    explanation = explain("" if address == "<>" else address, readings)
    senders = _said([address])
    return Candidate(address, senders, explanation.account, explanation.reason)


def _of_all(readings: Sequence[Reading]) -> list[Candidate]:
    """Each account of each mapping once, with the senders that it has in full."""
    found = []
    for reading in readings:
        for entry in reading.listing.entries:
            match entry.account:
                case None:
                    continue
                case Account() as account:
                    found.append(Candidate(_title(entry.patterns), _said(entry.patterns), account))
                case unusable:
                    problem = f"{unusable.origin}: {unusable.reason}"
                    found.append(Candidate(_title(entry.patterns), (), unusable.account, problem))
    return found


def _title(patterns: Sequence[str]) -> str:
    more = len(patterns) - 1
    return f"{patterns[0]} and {more} more" if more else patterns[0]


def _said(patterns: Sequence[str]) -> tuple[str, ...]:
    """The addresses among the patterns: of one with `*` in it, there is none to say."""
    full = [address for address in patterns if "@" in address and "*" not in address]
    return tuple(full[:_MAX_SENDERS])


def _with_password(candidate: Candidate, situation: Situation) -> Candidate:
    """The candidate with its password at hand. Commands may take their time, and ask the user: one after the other."""
    account = candidate.account
    if candidate.problem or account is None or account.credentials is None:
        return candidate
    try:
        password = situation.passwords.fetch(account.credentials.password)
    except PasswordError as error:
        return replace(candidate, problem=f"{error}; {error.remedy}" if error.remedy else str(error))
    return replace(candidate, account=replace(account, credentials=replace(account.credentials, password=password)))


def _try_all(candidates: Sequence[Candidate], way: Way) -> list[Report]:
    """Try all side by side. On a terminal, a line on standard error tells how far they are."""
    progress = _Progress(candidates)

    def try_one(number: int, candidate: Candidate) -> Report:
        try:
            if candidate.account is None or candidate.problem:
                return Report(candidate, {})
            results = try_out(candidate.account, candidate.senders, way, partial(progress.begin, number))
            return Report(candidate, results)
        finally:
            progress.end(number)

    try:
        return together([partial(try_one, number, candidate) for number, candidate in enumerate(candidates)])
    finally:
        progress.clear()


class _Progress:
    """A line that is written again and again: what is still tried, and where it is. For all threads."""

    def __init__(self, candidates: Sequence[Candidate]) -> None:
        self._candidates = candidates
        self._running: dict[int, Phase] = {}
        self._done = 0
        self._lock = Lock()
        self._shown = sys.stderr.isatty()

    def begin(self, number: int, phase: Phase) -> None:
        with self._lock:
            self._running[number] = phase
            self._tell()

    def end(self, number: int) -> None:
        with self._lock:
            self._running.pop(number, None)
            self._done += 1
            self._tell()

    def clear(self) -> None:
        with self._lock:
            self._write("")
            self._shown = False

    def _tell(self) -> None:
        names = [f"{self._candidates[number].title} ({phase.value})" for number, phase in self._running.items()]
        line = printable(f"{self._done} of {len(self._candidates)} done; {', '.join(names)}")
        self._write(line[: (terminal(sys.stderr).width or 80) - 1])

    def _write(self, line: str) -> None:
        if self._shown:
            sys.stderr.write(f"\r\x1b[K{line}")
            sys.stderr.flush()


def as_object(report: Report) -> dict[str, object]:
    """What --json prints of one account."""
    candidate, account = report.candidate, report.candidate.account
    return {
        "address": candidate.title,
        "file": account.origin.file if account else None,
        "line": account.origin.line if account else None,
        "server": account.host if account else None,
        "port": account.port if account else None,
        "good": report.good,
        "problem": candidate.problem or None,
        "results": {
            phase.value: {"verdict": result.verdict.value, "text": result.text, "details": result.details or None}
            for phase, result in report.results.items()
        },
    }


def as_text(reports: Sequence[Report], situation: Situation, terminal: Terminal) -> list[str]:
    """What is printed for people: a table, and below it what is to be done."""
    if not reports:
        return ["There is no account to check; `sendooway accounts` says where it was looked for."]
    heads = ("sender", "smarthost", *(phase.value for phase in Phase))
    lines = table(heads, [_row(report) for report in reports], terminal)
    bad, doubtful = [], list(situation.notes)
    for report in reports:
        about = f"{report.candidate.title}{_place(report, situation.user)}"
        if report.candidate.problem:
            bad.append(f"{about}: {tilde(report.candidate.problem, situation.user)}")
        for result in report.results.values():
            if result.details:
                (bad if result.verdict is Verdict.BAD else doubtful).append(f"{about}: {result.details}")
    if bad:
        lines += ["", *(line for text in bad for line in marked("!", Colour.RED, text, terminal))]
    return lines + warnings(doubtful, terminal)


def _place(report: Report, user: Identity) -> str:
    account = report.candidate.account
    return f" ({tilde(str(account.origin), user)})" if account and not report.candidate.problem else ""


def _row(report: Report) -> list[Cell]:
    account = report.candidate.account
    smarthost = f"{account.host}:{account.port}" if account else ""
    if report.candidate.problem:
        smarthost = smarthost or "none"
    cells = [_cell(report, phase) for phase in Phase]
    return [Cell(report.candidate.title), Cell(smarthost, Colour.NONE if account else Colour.RED), *cells]


def _cell(report: Report, phase: Phase) -> Cell:
    result = report.results.get(phase)
    if result is None:
        unusable = report.candidate.account is not None and report.candidate.problem and phase is Phase.LOGIN
        return Cell("unusable", Colour.RED) if unusable else Cell(_why_not(report, phase))
    failed = result.verdict is Verdict.BAD
    # In capitals, so that it is seen without colours, too.
    return Cell(
        result.text.upper() if failed and phase is not Phase.MECHANISMS else result.text, _COLOURS[result.verdict]
    )


def _why_not(report: Report, phase: Phase) -> str:
    """What stands in place of a result that there cannot be; empty where the phase was not reached."""
    account = report.candidate.account
    if account is None or not report.results:
        return ""
    match phase:
        case Phase.IPV4 | Phase.IPV6:
            return "-"
        case Phase.LOGIN if not account.logs_in:
            return "no login"
        case Phase.MAIL if report.good:
            return "no address"
    return ""
