r"""Conversations as text files, and how to run them.

    # a comment
    C: RCPT TO:<bob@sun.test>   the client sends this line
    > RCPT TO:<bob@sun.test>    then the smarthost is sent this line,
    < 250 2.1.5 Ok              and says this one,
    S: 250 2.1.5 *              which the client hears (a pattern, as of a shell)
    = QUIT                      at the end, this line waits for the session
    -- client closes            something else happens, or is so: the words stand in `Step`

Lines get their CR LF; with a plus sign (`C+ `, `>+ `, `<+ `, `=+ `) the octets stand for themselves. \r \n \0 \t \\ and
\xHH mean what they mean elsewhere, {x*500} is an x 500 times.

Whatever stands together in a file is one burst, and all that follows from it is written before the next one.
"""

import re
from base64 import b64encode
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import groupby
from pathlib import Path

from sendooway import sasl
from sendooway.sasl import SaslError
from sendooway.smtp import command, reply
from sendooway.smtp.capabilities import Capabilities
from sendooway.smtp.command import CommandError, Envelope
from sendooway.smtp.lines import LineFault, LineReader
from sendooway.smtp.parameters import adapt_mail
from sendooway.smtp.relay import Relay
from sendooway.smtp.reply import Reply
from sendooway.smtp.server import Authenticate, Close, Decision, Discard, Policy, Respond, Server

DIALOGUES = Path(__file__).parent / "dialogues"

_ESCAPE = re.compile(r"\\(?:x([0-9a-f]{2})|([rnt0\\]))|\{(.)\*([0-9]+)\}")
_MEANINGS = {"r": "\r", "n": "\n", "t": "\t", "0": "\0", "\\": "\\"}
_LINE = re.compile(r"(?:(C:|S:|>|<|=|C\+|>\+|<\+|=\+|--)(?: (.*))?)?")
_INPUTS = frozenset("C<")


@dataclass(frozen=True)
class Step:
    """`kind` is one of C S > < = and -- for a directive:

    `offers WORDS`, `trace LINE`, `mail FROM:<...>` as the client said it, and `limit OCTETS` come first;
    `client closes` and `smarthost closes` happen; `cut` means that from now on the smarthost's connection must be given
    up, as it must not be before; `network only` is for a server's dialogue with bare LFs, which end a line on pipes.
    """

    kind: str
    text: str
    end: str
    number: int

    @property
    def octets(self) -> bytes:
        return (_unescape(self.text) + self.end).encode("latin-1")


def _unescape(text: str) -> str:
    def meaning(match: re.Match[str]) -> str:
        if match[3]:
            return match[3] * int(match[4])
        return chr(int(match[1], 16)) if match[1] else _MEANINGS[match[2]]

    return _ESCAPE.sub(meaning, text)


class Dialogue:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.steps = list(parse(path.read_text("ascii"), str(path)))

    def __str__(self) -> str:
        return self.path.stem

    def says(self, directive: str) -> str | None:
        """The words after this directive, None if it is not there."""
        for step in self.steps:
            if step.kind == "--" and step.text.startswith(directive):
                return step.text[len(directive) :].strip()
        return None

    def bursts(self) -> Iterator[tuple[list[Step], list[Step]]]:
        """What comes in together, and what has to come of it."""
        steps = [step for step in self.steps if not (step.kind == "--" and step.text.split()[0] in _SETTINGS)]
        groups = [(key, list(group)) for key, group in groupby(steps, _is_input)]
        if groups and not groups[0][0]:
            groups.insert(0, (True, []))
        for position in range(0, len(groups), 2):
            yield groups[position][1], groups[position + 1][1] if position + 1 < len(groups) else []


_SETTINGS = ("offers", "trace", "mail", "limit", "network")


def _is_input(step: Step) -> bool:
    return step.kind in _INPUTS or (step.kind == "--" and step.text.endswith("closes"))


def parse(text: str, file: str) -> Iterator[Step]:
    for number, line in enumerate(text.splitlines(), 1):
        if line.startswith("#"):
            continue
        match = _LINE.fullmatch(line)
        assert match, f"{file}:{number}: {line}"
        if match[1]:
            raw = match[1].endswith("+")
            yield Step(match[1].rstrip(":+"), match[2] or "", "" if raw else "\r\n", number)


def load(folder: str) -> list[Dialogue]:
    return [Dialogue(path) for path in sorted((DIALOGUES / folder).glob("*.txt"))]


# How a burst is cut into pieces

Cutting = Callable[[bytes], Iterable[bytes]]


def whole(octets: bytes) -> Iterable[bytes]:
    return [octets] if octets else []


def by_octet(octets: bytes) -> Iterable[bytes]:
    return (octets[at : at + 1] for at in range(len(octets)))


CUTTINGS: list[Cutting] = [whole, by_octet]


def check(where: str, heard: bytes, expected: list[Step]) -> None:
    """That these octets are the lines that the patterns describe."""
    lines = heard.decode("latin-1").split("\r\n")
    patterns = [_unescape(step.text) for step in expected] + [""]
    same = len(lines) == len(patterns) and all(map(fnmatchcase, lines, patterns))
    assert same, "\n".join([f"{where}: the client had to hear", *patterns, "and heard", *lines])


# A relay, between a client and a smarthost of paper


def run_relay(dialogue: Dialogue, cutting: Cutting) -> None:
    _RelayRun(dialogue, cutting).run()


def make_relay(dialogue: Dialogue, lines: LineReader, kind: type[Relay] = Relay) -> Relay:
    """As the settings of the dialogue say."""
    offers = dialogue.says("offers")
    trace = dialogue.says("trace")
    limit = dialogue.says("limit")
    capabilities = Capabilities(dict.fromkeys(("PIPELINING" if offers is None else offers).split(), ""))
    mail = adapt_mail(
        command.parse_mail(dialogue.says("mail") or "FROM:<alice@moon.test>"),
        capabilities,
        eight_bit_needed=False,
        size_limit=None,
        added=0,
        verified_tls=True,
    )
    assert isinstance(mail, Envelope)
    return kind(
        lines,
        mail,
        capabilities,
        trace=trace.encode("ascii") + b"\r\n" if trace else b"",
        size_limit=int(limit) if limit else None,
    )


class _RelayRun:
    def __init__(self, dialogue: Dialogue, cutting: Cutting) -> None:
        self._dialogue = dialogue
        self._cutting = cutting
        self._lines = LineReader()
        self._relay = make_relay(dialogue, self._lines)
        self._heard = self._passed_on = b""

    def run(self) -> None:
        cut = False
        for inputs, outputs in self._dialogue.bursts():
            # The first burst is the relay's own MAIL.
            for kind, steps in groupby(inputs, lambda step: step.kind):
                self._receive(kind, list(steps))
            self._collect()
            where = f"{self._dialogue.path}:{(inputs or outputs)[-1].number}"
            check(where, self._heard, [step for step in outputs if step.kind == "S"])
            passed_on = b"".join(step.octets for step in outputs if step.kind == ">")
            cuts = any(step.kind == "--" and step.text == "cut" for step in outputs)
            # Of what came in together with the reason for a cut, as much has gone out as came in before it.
            assert self._passed_on == passed_on or (cuts and passed_on.startswith(self._passed_on)), where
            self._heard = self._passed_on = b""
            cut = cut or cuts
            assert (self._relay.lost is not None) == cut, f"{where}: {self._relay.lost}"
        assert self._relay.done
        assert self._lines.take() == b"".join(step.octets for step in self._dialogue.steps if step.kind == "=")

    def _receive(self, kind: str, steps: list[Step]) -> None:
        octets = b"".join(step.octets for step in steps)
        match kind:
            case "C":
                for piece in self._cutting(octets):
                    self._relay.receive_from_client(piece)
                    self._collect()
            case "<":
                for piece in self._cutting(octets):
                    # A connection that is cut says nothing any more.
                    if self._relay.lost is None:
                        self._relay.receive_from_smarthost(piece)
                    self._collect()
            case "--":
                for step in steps:
                    if step.text == "client closes":
                        self._relay.client_closed()
                    else:
                        self._relay.lose("it closed the connection")

    def _collect(self) -> None:
        self._heard += bytes(self._relay.for_client)
        self._passed_on += bytes(self._relay.for_smarthost)
        self._relay.for_client.clear()
        self._relay.for_smarthost.clear()


# A server, to which nobody can log in

POLICY = Policy(
    localname="sendooway.test",
    starttls=False,
    login_needs_tls=False,
    mechanisms=("PLAIN", "LOGIN"),
    eight_bit_mime=True,
    size_limit=0,
    most_errors=20,
    most_failed_logins=5,
)


def run_server(dialogue: Dialogue, cutting: Cutting, *, lf_ends_line: bool) -> None:
    session = PaperSession(lf_ends_line)
    for inputs, outputs in dialogue.bursts():
        for piece in cutting(octets_of_client(inputs, lf_ends_line=lf_ends_line)):
            session.receive(piece)
        where = f"{dialogue.path}:{(inputs or outputs)[-1].number}"
        check(where, session.take(), outputs)


def octets_of_client(steps: list[Step], *, lf_ends_line: bool) -> bytes:
    octets = b"".join(step.octets for step in steps if step.kind == "C")
    return octets.replace(b"\r\n", b"\n") if lf_ends_line else octets


class PaperSession:
    """What the session does for a server without TLS and smarthosts: it asks for credentials, and none are right."""

    def __init__(self, lf_ends_line: bool) -> None:
        self._lines = LineReader(lf_ends_line=lf_ends_line)
        self._server = Server(POLICY)
        self._login: sasl.Server | None = None
        self._discard = 0  # octets to read, before this is carried out
        self._then: Decision | None = None
        self.open = True
        self._said = reply.format(self._server.greeting())

    def receive(self, octets: bytes) -> None:
        self._lines.receive(octets)
        while self.open:
            if self._then is not None:
                self._discard -= len(self._lines.take(self._discard))
                if self._discard:
                    return
                then, self._then = self._then, None
                self._carry_out(then)
            elif (line := self._lines.next_line()) is None:
                return
            elif self._login is None:
                self._carry_out(self._server.receive(line))
            else:
                self._respond(self._login, line)

    def take(self) -> bytes:
        said, self._said = self._said, b""
        return said

    def _carry_out(self, decision: Decision) -> None:
        match decision:
            case Respond(answer):
                self._say(answer)
            case Close(answer):
                self._say(answer)
                self.open = False
            case Authenticate(mechanism, initial_response):
                self._login = sasl.server(mechanism)
                challenge = next(self._login)
                if initial_response is None:
                    self._challenge(challenge)
                else:
                    self._continue(self._login, initial_response)
            case Discard(octets, then):
                self._discard, self._then = octets, then
            case _:
                raise AssertionError(decision)

    def _respond(self, login: sasl.Server, line: bytes | LineFault) -> None:
        try:
            if isinstance(line, LineFault):
                raise CommandError(500, "5.5.6", line.value)
            if line == b"*":
                raise CommandError(501, "5.7.0", "Authentication cancelled")
            self._continue(login, command.parse_base64(line) if line else b"")
        except CommandError as error:
            self._login = None
            self._carry_out(self._server.fault(Reply(error.code, error.enhanced, (error.text,))))

    def _continue(self, login: sasl.Server, response: bytes) -> None:
        try:
            self._challenge(login.send(response))
        except SaslError:
            self._login = None
            self._say(reply.reply(501, "5.5.2", "Malformed authentication"))
        except StopIteration:
            self._login = None
            self._say(reply.reply(535, "5.7.8", "Authentication failed"))

    def _challenge(self, challenge: bytes) -> None:
        self._say(reply.reply(334, "", b64encode(challenge).decode("ascii")))

    def _say(self, answer: Reply) -> None:
        self._said += reply.format(answer)
