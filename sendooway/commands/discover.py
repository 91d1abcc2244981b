"""`sendooway discover`: find the smarthost of an address, and propose the lines that make an account of it."""

import json
import os
import sys
from collections.abc import Sequence

from sendooway.accounts import pattern
from sendooway.accounts.value import BadValue
from sendooway.commands.command_line import CommandLine, Syntax
from sendooway.commands.reading import read_all
from sendooway.commands.situation import Situation, show, survey, terminal, tilde, who_asks
from sendooway.commands.stanza import Stanza, stanzas
from sendooway.commands.table import Colour, Terminal, marked, paragraph, printable, warnings
from sendooway.discovery.internet import Internet
from sendooway.discovery.search import BadAddress, Finding, domain_of, search
from sendooway.options import UsageError

HELP = """\
Usage: sendooway discover [OPTION]... ADDRESS
Look for the smarthost of your mailbox ADDRESS, by what its domain says of it,
and propose lines for your own file. Nothing is written, and nobody logs in.

  -c, --config FILE   the configuration (default: /etc/sendooway.conf, or the
                      defaults where you may not read it)
      --json          an object
  -h, --help          show this help, and end

Exit status: 0; 1 if nothing was found; 64 for a wrong command line; 75 if
nobody answered; 78 for a wrong configuration.
"""

SYNTAX = Syntax(fewest=1, most=1)


def run(line: CommandLine) -> int:
    address = line.arguments[0]
    try:
        domain = domain_of(pattern.parse(address))
    except (BadAddress, BadValue) as error:
        raise UsageError(f"{address!r}: {error}") from None
    situation = survey(line.value("config"), who_asks())
    finding = Internet(situation.trusted(), situation.settings.localname).answer(search(address))
    readings = read_all(situation)
    proposed = stanzas(address, domain, finding.proposals[0], readings, situation.user) if finding.proposals else []
    if line.has("json"):
        show([json.dumps(as_object(address, finding, proposed), indent=2)])
        show([printable(f"warning: {note}") for note in situation.notes], sys.stderr)
    else:
        show(as_text(address, domain, finding, proposed, situation, terminal(sys.stdout)))
    if finding.proposals:
        return os.EX_OK
    return os.EX_TEMPFAIL if finding.offline else 1


def as_object(address: str, finding: Finding, proposed: Sequence[Stanza]) -> dict[str, object]:
    """What --json prints."""
    return {
        "address": address,
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
        "stanzas": [{"source": one.source, "where": one.where, "lines": list(one.lines)} for one in proposed],
        "steps": [{"asked": step.asked, "outcome": step.outcome} for step in finding.steps],
        "offline": finding.offline,
    }


def as_text(
    address: str,
    domain: str,
    finding: Finding,
    proposed: Sequence[Stanza],
    situation: Situation,
    terminal: Terminal,
) -> list[str]:
    """What is printed for people: what was looked at, what was found, and what to do with it."""
    lines = [f"Looking for the smarthost of {address}:"]
    for step in finding.steps:
        lines += marked("-", Colour.NONE, f"{step.asked}: {step.outcome}", terminal)
    lines.append("")
    if not finding.proposals:
        return lines + _nothing(domain, finding, terminal) + warnings(situation.notes, terminal)
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
        lines += marked(
            " ", Colour.NONE, f"Also: {other.candidate}{'' if other.confirmed else ', not confirmed'}", terminal
        )
    for stanza in proposed:
        password = "" if stanza.complete else ", with your password in place of PASSWORD"
        place = f"{tilde(stanza.where, situation.user)}{password}:"
        lines += ["", *paragraph(f"For {printable(place)}", terminal), ""]
        lines += [printable(f"  {one}") for one in stanza.lines]
    if len(proposed) > 1:
        lines += ["", "One of them is enough."]
    lines += ["", *paragraph(f"Nothing was written. Then try it: sendooway check {address}", terminal)]
    return lines + warnings(situation.notes, terminal)


def _nothing(domain: str, finding: Finding, terminal: Terminal) -> list[str]:
    if finding.offline:
        text = "Nobody answered at all. Is this machine offline?"
    else:
        text = f"{domain} does not tell its smarthost. Your provider's pages will; look for SMTP or outgoing mail."
    return marked("!", Colour.RED, text, terminal)
