"""The inputs of the dialogue fuzzers: what a client and a smarthost say in turns, as text files.

The lines are those of tests/dialogues that come in (`C`, `<`, and `--` for what happens), without what is expected:
what comes out is not known beforehand, and judged by `oracle`. Each line is one piece as it arrives, so that a file
holds the cutting too:

    -- offers PIPELINING        the smarthost's extensions; without this line PIPELINING
    -- trace X: y               what the relay puts in front of a message
    C+ RCPT TO:<bob@sun.test>\\r\\n
    <+ 250 Ok\\r\\n
    -- client waits             from now on the client reads nothing,
    -- client listens           and from now on it reads again; the smarthost likewise
    -- client closes
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace

import dialogue

CLIENT, SMARTHOST, HAPPENS = "C", "<", "--"

HAPPENINGS = (
    b"client waits",
    b"client listens",
    b"client closes",
    b"smarthost waits",
    b"smarthost listens",
    b"smarthost closes",
)


@dataclass(frozen=True)
class Event:
    """Octets that CLIENT or SMARTHOST says in one piece, or one of HAPPENINGS."""

    kind: str
    octets: bytes


@dataclass(frozen=True)
class Conversation:
    events: tuple[Event, ...]
    offers: tuple[str, ...] = ("PIPELINING",)
    trace: bytes = b""

    def format(self) -> bytes:
        lines = [f"-- offers {' '.join(self.offers)}".rstrip()]
        if self.trace:
            lines.append(f"-- trace {_escape(self.trace.removesuffix(_CRLF))}")
        for event in self.events:
            plus = "" if event.kind == HAPPENS else "+"
            lines.append(f"{event.kind}{plus} {_escape(event.octets)}")
        return "\n".join(lines).encode("ascii") + b"\n"


_CRLF = b"\r\n"


def parse(steps: Iterable[dialogue.Step]) -> Conversation:
    """The conversation that the lines of a file tell. What they expect is left out."""
    conversation = Conversation(())
    for step in steps:
        match step.kind:
            case "C" | "<":
                conversation = replace(conversation, events=(*conversation.events, Event(step.kind, step.octets)))
            case "--" if step.text.startswith("offers"):
                conversation = replace(conversation, offers=tuple(step.text.split()[1:]))
            case "--" if step.text.startswith("trace"):
                conversation = replace(conversation, trace=step.octets.removeprefix(b"trace "))
            case "--" if step.text.encode("ascii") in HAPPENINGS:
                event = Event(HAPPENS, step.text.encode("ascii"))
                conversation = replace(conversation, events=(*conversation.events, event))
    return conversation


def read(text: bytes) -> Conversation:
    """A kept input."""
    return parse(dialogue.parse(text.decode("ascii"), "input"))


def seeds(folder: str) -> list[Conversation]:
    """The conversations of tests/dialogues/`folder`."""
    return [parse(each.steps) for each in dialogue.load(folder)]


def _escape(octets: bytes) -> str:
    names = {"\r": r"\r", "\n": r"\n", "\0": r"\0", "\t": r"\t", "\\": "\\\\", "{": r"\x7b"}
    return re.sub(
        r"[^\x20-\x5b\x5d-\x7a\x7c-\x7e]| $",
        lambda character: names.get(character[0], f"\\x{ord(character[0]):02x}"),
        octets.decode("latin-1"),
    )
