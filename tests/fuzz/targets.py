"""What is fuzzed: for each target, where its inputs come from and what must hold for them.

An input is octets, so that one that has broken something can be kept as a file in `inputs/TARGET/`. From then on it is
run with each test run. It is no seed for mutation: else the seed of a run would not make the same inputs again.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random

from fuzz import conversation, login, mutation, parsers, relay
from fuzz.conversation import Conversation
from fuzz.oracle import Violation

INPUTS = Path(__file__).parent / "inputs"


@dataclass(frozen=True)
class Target:
    """`invent` makes an input by chance; `run` raises AssertionError where it breaks a promise, and whatever the code
    under test raises and must not. `turn`, in seconds, is its share of the time."""

    name: str
    invent: Callable[[Random], bytes]
    run: Callable[[bytes], None]
    turn: float = 0.5

    def kept(self) -> list[Path]:
        """The inputs that once broke something."""
        return sorted(path for path in (INPUTS / self.name).glob("*") if path.is_file())


def conversations(name: str, seeds: list[Conversation], run: Callable[[Conversation], None]) -> Target:
    """Made of these seeds, and run as conversations."""
    return Target(
        name,
        lambda random: mutation.mutate_conversation(random, seeds).format(),
        lambda octets: run(conversation.read(octets)),
        # Two dialogues have more states than a parser.
        turn=6.0,
    )


def _parser(name: str) -> Target:
    seeds = parsers.seeds(name)
    return Target(name, lambda random: mutation.mutate_file(random, seeds, parsers.TOKENS), parsers.PARSERS[name])


def _time(name: str) -> Target:
    """The same parser, given as many octets as a file may have."""

    def invent(random: Random) -> bytes:
        octets = random.choice(parsers.seeds(name))
        if random.randrange(2):
            octets = mutation.mutate_octets(random, octets, (), parsers.TOKENS)
        return parsers.amplify(random, octets)

    def run(octets: bytes) -> None:
        # Another try for what took too long: two programs on one core slow each other down, and that is no one's fault.
        for _ in range(5):
            seconds = parsers.time(name, octets)
            if seconds < parsers.SECONDS:
                return
        raise Violation(f"{len(octets)} octets took {seconds:.1f} s of CPU time")

    return Target(f"time-of-{name}", invent, run)


DIALOGUES = [
    conversations("relay", conversation.seeds("relay"), relay.run),
    conversations("client-login", conversation.seeds("server"), login.run_client),
    conversations("smarthost-login", login.SMARTHOST_SEEDS, login.run_smarthost),
]
FILES = [_parser(name) for name in parsers.PARSERS]
# Not of commands: their lines have a limit before anything is looked at.
TIMES = [_time(name) for name in parsers.PARSERS if name != "command"]
PURE = [*DIALOGUES, *FILES, *TIMES]


def input_of(target: Target, seed: str, number: int) -> bytes:
    """The input of this number in a run with this seed: the same each time, whatever was run before it."""
    return target.invent(Random(f"{seed}/{target.name}/{number}"))
