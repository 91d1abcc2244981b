"""`sendooway discover`: find the smarthost of an address, and propose the lines that make an account of it."""

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from sendooway.accounts import pattern
from sendooway.accounts.entry import Entry
from sendooway.accounts.mailbox import address_of
from sendooway.accounts.value import BadValue
from sendooway.commands.command_line import CommandLine, Syntax
from sendooway.commands.output import show, show_json, terminal
from sendooway.commands.reading import Reading, read_all
from sendooway.commands.situation import Situation, survey, tilde, who_asks
from sendooway.commands.stanza import Stanza, stanzas
from sendooway.commands.table import Colour, Terminal, marked, paragraph, printable, warnings
from sendooway.discovery.internet import Internet
from sendooway.discovery.search import BadAddress, Finding, domain_of, search
from sendooway.net.together import together
from sendooway.options import UsageError

HELP = """\
Usage: sendooway discover [OPTION]... [ADDRESS]...
Look for the smarthost of these mailboxes, or of all in your files that have
none and whose address is obvious, by what the domain says of it, and propose
lines for your own file. Nothing is written, and nobody logs in.

  -c, --config FILE   the configuration (default: /etc/sendooway.conf, or the
                      defaults where you may not read it)
      --json          a list of objects, one for each mailbox
  -h, --help          show this help, and end

Exit status: 0; 1 if nothing was found for a mailbox, or there is none; 64 for a
wrong command line; 75 if nobody answered; 78 for a wrong configuration.
"""

SYNTAX = Syntax(most=20)


@dataclass(frozen=True)
class Discovery:
    """What was found for a mailbox, and the lines that make an account of the best of it."""

    address: str
    finding: Finding
    proposed: tuple[Stanza, ...]


def run(line: CommandLine) -> int:
    for address in line.arguments:
        try:
            domain_of(pattern.parse(address))
        except (BadAddress, BadValue) as error:
            raise UsageError(f"{address!r}: {error}") from None
    situation = survey(line.value("config"), who_asks())
    readings = read_all(situation)
    bare = [entry for reading in readings for entry in reading.listing.entries if entry.account is None]
    obvious = [address_of(entry.retriever) for entry in bare if entry.retriever]
    addresses = line.arguments or tuple(dict.fromkeys(filter(None, obvious)))
    internet = Internet(situation.trusted(), situation.settings.localname)
    findings = together([partial(internet.answer, search(address)) for address in addresses])
    discoveries = [
        Discovery(address, finding, _proposed(address, finding, readings, situation))
        for address, finding in zip(addresses, findings, strict=True)
    ]
    if line.has("json"):
        show_json([as_object(one) for one in discoveries], situation.notes)
    else:
        show(_all_as_text(discoveries, [] if line.arguments else bare, situation, terminal(sys.stdout)))
    if discoveries and all(finding.proposals for finding in findings):
        return os.EX_OK
    return os.EX_TEMPFAIL if any(finding.offline for finding in findings) else 1


def _proposed(address: str, finding: Finding, readings: Sequence[Reading], situation: Situation) -> tuple[Stanza, ...]:
    return tuple(stanzas(address, finding.proposals[0], readings, situation.user)) if finding.proposals else ()


def _all_as_text(
    discoveries: Sequence[Discovery], bare: Sequence[Entry], situation: Situation, terminal: Terminal
) -> list[str]:
    """What is printed for people. `bare` are the mailboxes without an account in which addresses were looked for."""
    lines: list[str] = []
    for discovery in discoveries:
        lines += [*([""] if lines else []), *as_text(discovery, situation, terminal)]
    doubtful = [
        f"{tilde(str(entry.origin), situation.user)}: the address of {entry.retriever.username} at "
        f"{entry.retriever.server} is not obvious: say `sendooway discover ADDRESS`"
        for entry in bare
        if entry.retriever and address_of(entry.retriever) is None
    ]
    if not discoveries and not doubtful:
        lines += ["No mailbox is without a smarthost; name one: sendooway discover ADDRESS"]
    if any(discovery.proposed for discovery in discoveries):
        lines += ["", "Nothing was written. Then try it out: sendooway check"]
    return lines + warnings([*doubtful, *situation.notes], terminal)


def as_object(discovery: Discovery) -> dict[str, object]:
    """What --json prints of one mailbox."""
    finding = discovery.finding
    return {
        "address": discovery.address,
        "proposals": [
            {
                "server": proposal.candidate.host,
                "port": proposal.candidate.port,
                "security": proposal.candidate.security.value,
                "username": proposal.candidate.username or None,
                "named_by": proposal.source,
                "confirmed": proposal.confirmed,
            }
            for proposal in finding.proposals
        ],
        "stanzas": [{"source": one.source, "where": one.where, "lines": list(one.lines)} for one in discovery.proposed],
        "steps": [{"asked": step.asked, "outcome": step.outcome} for step in finding.steps],
        "offline": finding.offline,
    }


def as_text(discovery: Discovery, situation: Situation, terminal: Terminal) -> list[str]:
    """What is printed for people: what was looked at, what was found, and what to do with it."""
    domain, finding = domain_of(discovery.address), discovery.finding
    lines = [f"Looking for the smarthost of {discovery.address}:"]
    for step in finding.steps:
        lines += marked("-", Colour.NONE, f"{step.asked}: {step.outcome}", terminal)
    lines.append("")
    if not finding.proposals:
        return lines + _nothing(domain, finding, terminal)
    best, *others = finding.proposals
    if best.confirmed:
        text = f"{best.candidate} belongs to {domain} and has proved it with its certificate."
        lines += marked("=", Colour.GREEN, text, terminal)
    else:
        text = (
            f"NOT CONFIRMED: {best.candidate} is outside {domain}, and was not contacted. {best.source} names it, "
            "which may be forged. Ask your provider whether it is right, before you give it your password."
        )
        lines += marked("!", Colour.RED, text, terminal)
    for other in others:
        doubt = "" if other.confirmed else ", not confirmed"
        lines += marked(" ", Colour.NONE, f"Also: {other.candidate}{doubt}", terminal)
    for stanza in discovery.proposed:
        password = "" if stanza.complete else ", with your password in place of PASSWORD"
        place = f"{tilde(stanza.where, situation.user)}{password}:"
        lines += ["", *paragraph(f"For {printable(place)}", terminal), ""]
        lines += [printable(f"  {one}") for one in stanza.lines]
    if len(discovery.proposed) > 1:
        lines += ["", "One of them is enough."]
    return lines


def _nothing(domain: str, finding: Finding, terminal: Terminal) -> list[str]:
    if finding.offline:
        text = "Nobody answered at all. Is this machine offline?"
    else:
        text = f"{domain} does not tell its smarthost. Your provider's pages will; look for SMTP or outgoing mail."
    return marked("!", Colour.RED, text, terminal)
