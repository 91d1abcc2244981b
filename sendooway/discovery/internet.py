"""Answers the questions of a search: each within its time, and all within theirs."""

import ssl
from functools import partial

from sendooway.accounts.account import Security
from sendooway.discovery import autoconfig, https
from sendooway.discovery.dns import Dns
from sendooway.discovery.https import Resolve
from sendooway.discovery.search import Answer, AskDns, Candidate, Fetch, Finding, Probe, Question, Search, Unreachable
from sendooway.net import dial, tls
from sendooway.net.deadline import Deadline
from sendooway.net.dial import DialError, dial_addresses
from sendooway.net.stream import SocketTransport, Stream
from sendooway.net.together import together
from sendooway.privsep.messages import AccountFound, SaslResponse, SaslUnavailable
from sendooway.smarthost import Wishes, prepare
from sendooway.smtp.client import SmarthostError

ALL_SECONDS = 30.0
QUESTION_SECONDS = 6.0


class Internet:
    """The network as this machine sees it. `context` trusts smarthosts and web servers; `seconds` is for one question.
    `dns` and `resolve` (a host and its port to addresses) may be others, for tests."""

    def __init__(
        self,
        context: ssl.SSLContext,
        ehlo_name: str,
        dns: Dns | None = None,
        resolve: Resolve = dial.resolve,
        seconds: float = QUESTION_SECONDS,
    ) -> None:
        self._context = context
        self._ehlo_name = ehlo_name
        self._dns = dns or Dns()
        self._resolve = resolve
        self._seconds = seconds

    def answer(self, search: Search) -> Finding:
        """Drive the search to its end. Raises what the search raises."""
        whole = Deadline(ALL_SECONDS)
        try:
            question = next(search)
            while True:
                question = search.send(self._ask(question, whole))
        except StopIteration as end:
            finding: Finding = end.value
            return finding

    def _ask(self, question: Question, whole: Deadline) -> Answer:
        try:
            deadline = whole.sooner(self._seconds)
        except TimeoutError:
            late = f"not asked: all together took longer than {whole.seconds:g} seconds"
            match question:
                case AskDns(names):
                    return (Unreachable(late),) * len(names)
                case Fetch():
                    return Unreachable(late)
                case Probe(candidates):
                    return (late,) * len(candidates)
        match question:
            case AskDns(names):
                return self._dns.ask(names, deadline)
            case Fetch(url, domain):
                return https.fetch(url, domain, autoconfig.MAX_OCTETS, deadline, self._context, self._resolve)
            case Probe(candidates):
                return tuple(together([partial(self._probe, candidate, deadline) for candidate in candidates]))

    def _probe(self, candidate: Candidate, deadline: Deadline) -> str | None:
        """Why the host is no smarthost that proves its name; None if it is one. Nothing is logged in to."""
        account = AccountFound(
            number=0,
            origin="",
            username="",
            host=candidate.host,
            port=candidate.port,
            security=candidate.security.value,
            check_certificate=True,
        )
        assert candidate.security is not Security.NONE
        try:
            sock = dial_addresses(self._resolve(candidate.host, candidate.port, deadline), deadline)
        except (DialError, TimeoutError) as error:
            return f"cannot be reached: {error}"
        stream = Stream(SocketTransport(sock))
        wishes = Wishes(self._ehlo_name, None, self._context, deadline)
        try:
            prepare(account, wishes, _NoLogin(), stream, self._context, lambda step, outcome: None).quit()
        except tls.CertificateError as error:
            return f"its certificate is not valid: {error}"
        except SmarthostError as error:
            return f"{error.stage.value}: {error.reason}{f' ({error.reply})' if error.reply else ''}"
        finally:
            stream.close()
        return None


class _NoLogin:
    """The Login of an account without a user name, which is never asked."""

    def begin_sasl(
        self, number: int, offered: tuple[str, ...], refused: tuple[str, ...]
    ) -> SaslResponse | SaslUnavailable:
        raise AssertionError("a login that nobody asked for")

    def continue_sasl(self, challenge: bytes) -> SaslResponse | SaslUnavailable:
        raise AssertionError("a login that nobody asked for")
