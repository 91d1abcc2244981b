"""How the smarthost of a mailbox is found: what to ask next, and what to make of the answers. Does no I/O.

The search is a generator, as the dialogues of `smtp/` are. It yields a question and is sent what came of it:

    AskDns(names)        -> for each name its Service, Absent or Unreachable
    Fetch(url)           -> the octets of a document, Absent or Unreachable
    Probe(candidates)    -> for each candidate None, once it has proved with a certificate that it is the host; else why
                            it has not

1. SRV records (RFC 6186, RFC 8314); 2. the document that the domain offers to mail programs (autoconfig) over HTTPS;
3. the names that most providers give their smarthosts. The first that gives a host which proves its name is the last.

Only hosts within the mailbox's own domain are ever contacted. Another one is proposed as it was named, not `confirmed`:
DNS may lie, and only a person can tell whether it is the provider's. Without TLS nothing is proposed.
"""

from collections.abc import Generator
from dataclasses import dataclass

from sendooway.accounts.account import Security
from sendooway.discovery.autoconfig import AutoconfigError, parse

MAX_CANDIDATES = 8  # of one answer; who names more does not help


@dataclass(frozen=True)
class Target:
    """One SRV record (RFC 2782). `host` without the final dot, empty for the target `.`: there is no such service."""

    priority: int
    weight: int
    port: int
    host: str


@dataclass(frozen=True)
class Service:
    """All SRV records of one name."""

    targets: tuple[Target, ...]


@dataclass(frozen=True)
class Absent:
    """There was an answer, and it has nothing for us. `reason` says what it was."""

    reason: str


@dataclass(frozen=True)
class Unreachable:
    """There was no answer. `reason` says why."""

    reason: str


@dataclass(frozen=True)
class Candidate:
    """A smarthost that somebody named. `username` is a login there, empty where nothing was said of it."""

    host: str
    port: int
    security: Security
    username: str = ""

    def __str__(self) -> str:
        return f"{self.host}:{self.port} ({self.security.value})"


@dataclass(frozen=True)
class Proposal:
    """A candidate for the user. `source` says who named it. `confirmed`: it is within the mailbox's own domain and has
    proved its name with a certificate."""

    candidate: Candidate
    source: str
    confirmed: bool


@dataclass(frozen=True)
class Step:
    """One thing that was looked at, and what came of it, in the words that the user reads."""

    asked: str
    outcome: str


@dataclass(frozen=True)
class Finding:
    """The proposals, the best first, and all that was looked at. `offline`: nothing at all has answered."""

    proposals: tuple[Proposal, ...]
    steps: tuple[Step, ...]
    offline: bool


@dataclass(frozen=True)
class AskDns:
    """The SRV records of each name."""

    names: tuple[str, ...]


@dataclass(frozen=True)
class Fetch:
    """The document at an https URL. Redirections are followed within `domain` only."""

    url: str
    domain: str


@dataclass(frozen=True)
class Probe:
    """Which of these speak SMTP behind TLS with a certificate for their name?"""

    candidates: tuple[Candidate, ...]


Question = AskDns | Fetch | Probe
DnsAnswer = Service | Absent | Unreachable
Answer = tuple[DnsAnswer, ...] | bytes | Absent | Unreachable | tuple[str | None, ...]
Search = Generator[Question, Answer, Finding]


class BadAddress(Exception):
    """Nothing can be found for this address. The text says why."""


def domain_of(address: str) -> str:
    """The domain of a mailbox, in lower case and ASCII (RFC 5890). Raises BadAddress."""
    local_part, _, domain = address.rpartition("@")
    if not local_part or not address.isprintable() or " " in address:
        raise BadAddress("an address must read user@domain")
    if domain.startswith("["):
        raise BadAddress("a numeric address has no names to be asked for")
    try:
        name = domain.lower().encode("ascii" if domain.isascii() else "idna").decode("ascii")
    except UnicodeError:
        raise BadAddress("this is no domain") from None
    if not is_host(name) or "." not in name:
        raise BadAddress("this is no domain that others could know; it would read example.org")
    return name


def is_host(name: str) -> bool:
    """Whether it is a host name (RFC 1123, 2.1): what else DNS and documents name is not for us."""
    labels = name.split(".")
    return len(name) <= 253 and all(
        0 < len(label) <= 63
        and label.isascii()
        and label.replace("-", "").isalnum()
        and not label.startswith("-")
        and not label.endswith("-")
        for label in labels
    )


def is_within(host: str, domain: str) -> bool:
    """Whether the host is the domain or below it."""
    return host == domain or host.endswith(f".{domain}")


def search(address: str) -> Search:
    """The whole search for the smarthost of a mailbox. Raises BadAddress."""
    return _Search(address).run()


class _Search:
    """One search. Each step returns the confirmed proposals, and notes what it has looked at."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._domain = domain_of(address)
        self._steps: list[Step] = []
        self._foreign: list[Proposal] = []
        self._answered = False
        self._denied = False  # the domain says that it has no smarthost

    def run(self) -> Search:
        found = (yield from self._ask_dns()) or (yield from self._read_autoconfig())
        if not found and not self._foreign and not self._denied:
            found = yield from self._try_names()
        return Finding(tuple(found or self._foreign), tuple(self._steps), not self._answered)

    def _ask_dns(self) -> Generator[Question, Answer, list[Proposal]]:
        # RFC 8314, 5.1: TLS from the first octet comes before STARTTLS.
        kinds = {
            f"_submissions._tcp.{self._domain}": Security.SMTPS,
            f"_submission._tcp.{self._domain}": Security.STARTTLS,
        }
        answers = yield AskDns(tuple(kinds))
        assert isinstance(answers, tuple)
        targets: list[Target] = []
        found: list[Proposal] = []
        for (name, security), answer in zip(kinds.items(), answers, strict=True):
            asked = f"DNS, {name}"
            if not isinstance(answer, Service):
                assert isinstance(answer, Absent | Unreachable)
                self._note(asked, answer)
                continue
            self._answered = True
            targets += answer.targets
            usable = [target for target in answer.targets if target.port and is_host(target.host)]
            # Among equals the heavier one, instead of one by chance: who asks twice gets the same answer.
            usable.sort(key=lambda target: (target.priority, -target.weight))
            candidates = [Candidate(target.host.lower(), target.port, security) for target in usable]
            self._steps.append(Step(asked, _listed(candidates) or "no such service"))
            found += yield from self._judge(candidates, asked)
        self._denied = bool(targets) and all(not target.host for target in targets)
        return found

    def _read_autoconfig(self) -> Generator[Question, Answer, list[Proposal]]:
        if self._denied:
            return []
        for url in (
            f"https://autoconfig.{self._domain}/mail/config-v1.1.xml",
            f"https://{self._domain}/.well-known/autoconfig/mail/config-v1.1.xml",
        ):
            answer = yield Fetch(url, self._domain)
            if isinstance(answer, Absent | Unreachable):
                self._note(url, answer)
                continue
            assert isinstance(answer, bytes)
            self._answered = True
            try:
                servers = parse(answer, self._address)
            except AutoconfigError as error:
                self._steps.append(Step(url, f"is no such document: {error}"))
                continue
            candidates = [
                Candidate(server.host, server.port, server.security, server.username)
                for server in servers
                if is_host(server.host)
            ]
            self._steps.append(Step(url, _listed(candidates) or "names no smarthost with TLS"))
            if found := (yield from self._judge(candidates, url)):
                return found
        return []

    def _try_names(self) -> Generator[Question, Answer, list[Proposal]]:
        candidates = [
            Candidate(f"{name}.{self._domain}", security.default_port, security)
            for name in ("smtp", "mail")
            for security in (Security.SMTPS, Security.STARTTLS)
        ]
        return (yield from self._judge(candidates, "a usual name"))

    def _judge(self, candidates: list[Candidate], source: str) -> Generator[Question, Answer, list[Proposal]]:
        """The proposals of candidates within the domain that prove their name. Foreign ones are kept for the end."""
        candidates = candidates[:MAX_CANDIDATES]
        own = tuple(candidate for candidate in candidates if is_within(candidate.host, self._domain))
        self._foreign += [
            Proposal(candidate, source, confirmed=False)
            for candidate in candidates
            if not is_within(candidate.host, self._domain)
        ]
        if not own:
            return []
        answers = yield Probe(own)
        assert isinstance(answers, tuple)
        found = []
        for candidate, failure in zip(own, answers, strict=True):
            assert failure is None or isinstance(failure, str)
            self._steps.append(Step(str(candidate), failure or "answers with a valid certificate"))
            if failure is None:
                self._answered = True
                found.append(Proposal(candidate, source, confirmed=True))
        return found

    def _note(self, asked: str, answer: Absent | Unreachable) -> None:
        self._answered |= isinstance(answer, Absent)
        self._steps.append(Step(asked, answer.reason))


def _listed(candidates: list[Candidate]) -> str:
    return ", ".join(map(str, candidates[:MAX_CANDIDATES]))
