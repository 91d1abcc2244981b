"""The search for a smarthost: what is asked, and what is made of the answers."""

import pytest

from sendooway.accounts.account import Security
from sendooway.discovery.search import (
    Absent,
    Answer,
    AskDns,
    BadAddress,
    Candidate,
    Fetch,
    Finding,
    Probe,
    Question,
    Service,
    Target,
    Unreachable,
    domain_of,
    search,
)

NONE = Absent("no such record")
DOWN = Unreachable("timed out")
SMTPS = Candidate("smtp.moon.test", 465, Security.SMTPS)
STARTTLS = Candidate("mail.moon.test", 587, Security.STARTTLS)
FOREIGN = Candidate("smtp.sun.test", 465, Security.SMTPS)


def srv(*hosts: str, port: int = 465) -> Service:
    return Service(tuple(Target(number, 0, port, host) for number, host in enumerate(hosts)))


def document(*hosts: str, username: str = "%EMAILADDRESS%") -> bytes:
    servers = "".join(
        f"<outgoingServer type='smtp'><hostname>{host}</hostname><port>465</port><socketType>SSL</socketType>"
        f"<username>{username}</username></outgoingServer>"
        for host in hosts
    )
    return f"<clientConfig><emailProvider>{servers}</emailProvider></clientConfig>".encode()


def run(
    submissions: Service | Absent | Unreachable = NONE,
    submission: Service | Absent | Unreachable = NONE,
    documents: tuple[bytes | Absent | Unreachable, bytes | Absent | Unreachable] = (NONE, NONE),
    proven: tuple[str, ...] = (),
) -> tuple[Finding, list[Question]]:
    """The finding for alice@moon.test and all that was asked. Of the hosts that are probed, only `proven` are good."""
    steps, asked, fetched = search("alice@moon.test"), list[Question](), iter(documents)
    answer: Answer | None = None
    try:
        while True:
            question = next(steps) if answer is None else steps.send(answer)
            asked.append(question)
            match question:
                case AskDns(names):
                    assert names == ("_submissions._tcp.moon.test", "_submission._tcp.moon.test")
                    answer = (submissions, submission)
                case Fetch():
                    answer = next(fetched)
                case Probe(candidates):
                    answer = tuple(None if one.host in proven else "cannot be reached" for one in candidates)
    except StopIteration as end:
        return end.value, asked


def hosts(finding: Finding) -> list[tuple[str, bool]]:
    return [(proposal.candidate.host, proposal.confirmed) for proposal in finding.proposals]


def test_a_host_of_the_domain_that_dns_names_and_that_proves_its_name_ends_the_search() -> None:
    finding, asked = run(submissions=srv("smtp.moon.test"), proven=("smtp.moon.test",))
    (proposal,) = finding.proposals
    assert (proposal.candidate, proposal.confirmed) == (SMTPS, True)
    assert proposal.source == "DNS, _submissions._tcp.moon.test"
    assert [type(question) for question in asked] == [AskDns, Probe]


def test_tls_at_once_comes_before_starttls_and_priority_before_weight() -> None:
    submissions = Service(
        (Target(20, 9, 465, "c.moon.test"), Target(10, 1, 465, "b.moon.test"), Target(10, 5, 465, "a.moon.test"))
    )
    names = tuple(f"{letter}.moon.test" for letter in "abcd")
    finding, _ = run(submissions, srv("d.moon.test", port=587), proven=names)
    assert hosts(finding) == [(name, True) for name in names]
    assert finding.proposals[-1].candidate.security is Security.STARTTLS


def test_a_host_elsewhere_is_proposed_but_neither_confirmed_nor_contacted() -> None:
    finding, asked = run(submissions=srv("smtp.sun.test"))
    assert hosts(finding) == [("smtp.sun.test", False)]
    assert not any(isinstance(question, Probe) for question in asked)


@pytest.mark.parametrize("host", ["notmoon.test", "moon.test.sun.test", "test", "smtp.moon.test.evil.test"])
def test_a_name_that_only_looks_alike_is_elsewhere(host: str) -> None:
    finding, _ = run(submissions=srv(host))
    assert hosts(finding) == [(host, False)]


def test_a_host_of_the_domain_in_the_document_beats_one_elsewhere_in_dns() -> None:
    finding, _ = run(srv("smtp.sun.test"), documents=(NONE, document("mx.moon.test")), proven=("mx.moon.test",))
    assert hosts(finding) == [("mx.moon.test", True)]
    assert finding.proposals[0].candidate.username == "alice@moon.test"


def test_names_are_not_guessed_where_the_domain_names_a_host_elsewhere() -> None:
    finding, _ = run(documents=(document("smtp.sun.test"), NONE), proven=("smtp.moon.test",))
    assert hosts(finding) == [("smtp.sun.test", False)]


def test_a_host_that_does_not_prove_its_name_is_not_proposed_and_the_search_goes_on() -> None:
    finding, asked = run(srv("bad.moon.test"), documents=(document("bad.moon.test"), NONE), proven=("mail.moon.test",))
    assert hosts(finding) == [("mail.moon.test", True), ("mail.moon.test", True)]
    assert [one.candidate.port for one in finding.proposals] == [465, 587]
    assert finding.proposals[1].candidate == STARTTLS
    assert [type(question) for question in asked] == [AskDns, Probe, Fetch, Probe, Fetch, Probe]


def test_a_domain_that_says_that_it_has_no_smarthost_is_believed() -> None:
    finding, asked = run(srv(""), srv(""), proven=("smtp.moon.test",))
    assert (finding.proposals, finding.offline) == ((), False)
    assert [type(question) for question in asked] == [AskDns]


def test_what_names_no_host_is_passed_over() -> None:
    finding, _ = run(
        srv("-bad-.moon.test", "a b.moon.test", "x" * 64 + ".moon.test", "ok.moon.test"), proven=("ok.moon.test",)
    )
    assert hosts(finding) == [("ok.moon.test", True)]
    finding, _ = run(Service((Target(0, 0, 0, "smtp.moon.test"),)), proven=("smtp.moon.test",))
    assert finding.proposals[0].source == "a usual name"


def test_only_so_many_hosts_are_looked_at() -> None:
    finding, asked = run(srv(*(f"h{number}.moon.test" for number in range(500))))
    assert max(len(question.candidates) for question in asked if isinstance(question, Probe)) == 8
    assert max(len(step.outcome) for step in finding.steps) < 1000


def test_without_any_answer_we_are_offline() -> None:
    finding, _ = run(DOWN, DOWN, (DOWN, DOWN))
    assert (finding.proposals, finding.offline) == ((), True)
    assert "timed out" in {step.outcome for step in finding.steps}


@pytest.mark.parametrize("answers", [(NONE, DOWN, DOWN), (DOWN, NONE, DOWN), (DOWN, DOWN, b"garbage")])
def test_with_any_answer_we_are_not_offline(answers: tuple[Absent | Unreachable, ...]) -> None:
    submissions, first, second = answers
    assert not run(submissions, DOWN, (first, second))[0].offline


@pytest.mark.parametrize(
    ("address", "domain"),
    [("alice@Moon.Test", "moon.test"), ('"a@b"@moon.test', "moon.test"), ("alice@bücher.test", "xn--bcher-kva.test")],
)
def test_the_domain_of_an_address(address: str, domain: str) -> None:
    assert domain_of(address) == domain


@pytest.mark.parametrize(
    "address",
    [
        "alice",
        "@moon.test",
        "alice@",
        "alice@localhost",
        "alice@[192.0.2.1]",
        "alice@moon..test",
        "a@moon.test/x",
        "alice@-moon.test",
        "a lice@moon.test",
        "alice@moon.test\n",
        "alice@" + "ü" * 200 + ".test",
        "alice@moon_.test",
    ],
)
def test_an_address_without_a_domain_is_refused(address: str) -> None:
    with pytest.raises(BadAddress):
        domain_of(address)
