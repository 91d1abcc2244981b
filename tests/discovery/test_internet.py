"""The whole search, through a name server, a web server and smarthosts on loopback."""

import socket
import ssl
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from servers.certificates import Certificate, Certificates
from servers.name_server import NameServer, Oddity, Records
from servers.scripted import Fault, ScriptedSmarthost, Stage
from servers.web import Page, WebServer

from sendooway.accounts.account import Security
from sendooway.discovery.dns import Dns
from sendooway.discovery.internet import Internet
from sendooway.discovery.search import Finding, search
from sendooway.net import tls
from sendooway.net.deadline import Deadline
from sendooway.net.dial import Address, DialError

SUBMISSIONS = "_submissions._tcp.moon.test"
SUBMISSION = "_submission._tcp.moon.test"
WELL_KNOWN = "moon.test/.well-known/autoconfig/mail/config-v1.1.xml"
DOCUMENT = b"""<clientConfig><emailProvider><outgoingServer type="smtp"><hostname>mx.moon.test</hostname>
<port>587</port><socketType>STARTTLS</socketType><username>%EMAILLOCALPART%</username></outgoingServer></emailProvider>
</clientConfig>"""


class World:
    """The part of the Internet that a search may see: each host and port is somewhere on loopback, or nowhere."""

    def __init__(self, stack: ExitStack, certificates: Certificates) -> None:
        self.places: dict[tuple[str, int], int] = {}
        self.resolved: list[str] = []
        self.records: dict[str, Records] = {}
        self._stack = stack
        self._certificates = certificates

    def smarthost(self, host: str, port: int, certificate: Certificate | None = None, **how: object) -> None:
        certificate = certificate or self._certificates.moon
        context = tls.server_context(str(certificate.certificate), str(certificate.key))
        server = ScriptedSmarthost(tls=context, implicit=port == 465, **how)  # type: ignore[arg-type]
        self.places[host, port] = self._stack.enter_context(server).port

    def web(self, pages: dict[str, Page]) -> None:
        server = self._stack.enter_context(WebServer(self._certificates.moon, pages))
        for page in pages:
            self.places[page.partition("/")[0], 443] = server.port

    def resolve(self, host: str, port: int, deadline: Deadline) -> list[Address]:
        self.resolved.append(host)
        if (host, port) not in self.places:
            raise DialError("Name or service not known")
        return [(socket.AF_INET, ("127.0.0.1", self.places[host, port]))]

    def find(self, seconds: float = 30) -> Finding:
        server = self._stack.enter_context(NameServer(self.records))
        context: ssl.SSLContext = tls.client_context(str(self._certificates.authority))
        dns = Dns(("127.0.0.1", server.port))
        return Internet(context, "client.test", dns, self.resolve, seconds).answer(search("alice@moon.test"))


@pytest.fixture
def world(certificates: Certificates) -> Iterator[World]:
    with ExitStack() as stack:
        yield World(stack, certificates)


def found(finding: Finding) -> list[tuple[str, int, bool]]:
    return [(one.candidate.host, one.candidate.port, one.confirmed) for one in finding.proposals]


def test_dns_names_the_smarthost(world: World) -> None:
    world.records = {SUBMISSIONS: ("0 0 465 smtp.moon.test.",), SUBMISSION: ("0 0 587 mail.moon.test.",)}
    world.smarthost("smtp.moon.test", 465)
    world.smarthost("mail.moon.test", 587)
    assert found(world.find()) == [("smtp.moon.test", 465, True), ("mail.moon.test", 587, True)]


def test_the_document_names_the_smarthost(world: World) -> None:
    world.web({WELL_KNOWN: DOCUMENT})
    world.smarthost("mx.moon.test", 587)
    (proposal,) = world.find().proposals
    assert (proposal.candidate.host, proposal.confirmed) == ("mx.moon.test", True)
    assert (proposal.candidate.security, proposal.candidate.username) == (Security.STARTTLS, "alice")
    assert proposal.source == f"https://{WELL_KNOWN}"


def test_usual_names_that_answer_with_their_certificate_are_found(world: World) -> None:
    world.smarthost("mail.moon.test", 587)
    finding = world.find()
    assert found(finding) == [("mail.moon.test", 587, True)]
    assert [step.outcome for step in finding.steps if "smtp.moon.test" in step.asked] == [
        "cannot be reached: Name or service not known"
    ] * 2


def test_a_host_elsewhere_is_proposed_without_a_look_at_it(world: World) -> None:
    world.records = {SUBMISSIONS: ("0 0 465 smtp.sun.test.",)}
    world.smarthost("smtp.sun.test", 465)
    assert found(world.find()) == [("smtp.sun.test", 465, False)]
    assert "smtp.sun.test" not in world.resolved


@pytest.mark.parametrize("kind", ["good", "wrong_name", "expired", "self_signed"])
def test_without_a_certificate_for_its_name_a_host_is_none(world: World, certificates: Certificates, kind: str) -> None:
    world.records = {SUBMISSIONS: ("0 0 465 smtp.moon.test.",)}
    world.smarthost("smtp.moon.test", 465, getattr(certificates, kind))
    finding = world.find()
    assert finding.proposals == ()
    assert "its certificate is not valid" in " ".join(step.outcome for step in finding.steps)


def test_starttls_that_is_not_offered_or_refused_is_no_tls(world: World) -> None:
    world.records = {SUBMISSION: ("0 0 587 smtp.moon.test.", "0 0 25 mail.moon.test.")}
    world.smarthost("smtp.moon.test", 587, answers={Stage.STARTTLS: [b"454 4.7.0 Not now"]})
    world.smarthost("mail.moon.test", 25, answers={Stage.EHLO: [b"250 no extensions"]})
    finding = world.find()
    assert finding.proposals == ()
    outcomes = " ".join(step.outcome for step in finding.steps)
    assert "STARTTLS: it refused STARTTLS (454 4.7.0 Not now)" in outcomes
    assert "STARTTLS: it does not offer STARTTLS" in outcomes


def test_a_host_that_says_nothing_has_only_its_time(world: World) -> None:
    world.records = {SUBMISSION: ("0 0 587 smtp.moon.test.",)}
    world.smarthost("smtp.moon.test", 587, answers={Stage.GREETING: [Fault.HANG]})
    finding = world.find(seconds=0.7)
    assert finding.proposals == ()
    assert "no answer within" in " ".join(step.outcome for step in finding.steps)


def test_offline_it_says_so(world: World) -> None:
    world.records = dict.fromkeys((SUBMISSIONS, SUBMISSION), Oddity.SILENCE)
    finding = world.find(seconds=0.7)
    assert finding.offline
    assert finding.proposals == ()
