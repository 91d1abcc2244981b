"""SRV records, asked of a name server on loopback that is not always honest."""

from servers.name_server import NameServer, Oddity, Records

from sendooway.discovery.dns import Dns
from sendooway.discovery.search import Absent, DnsAnswer, Service, Target, Unreachable
from sendooway.net.deadline import Deadline

NAME = "_submissions._tcp.moon.test"


def ask(records: dict[str, Records], *names: str, seconds: float = 30) -> tuple[DnsAnswer, ...]:
    with NameServer(records) as server:
        return Dns(("127.0.0.1", server.port)).ask(names or (NAME,), Deadline(seconds))


def test_all_records_of_each_name_come_back() -> None:
    answers = ask({NAME: ("10 5 465 smtp.moon.test.", "20 0 465 Mail.Moon.test.")}, NAME, "_submission._tcp.moon.test")
    assert isinstance(answers[0], Service)
    assert set(answers[0].targets) == {Target(10, 5, 465, "smtp.moon.test"), Target(20, 0, 465, "Mail.Moon.test")}
    assert answers[1] == Absent("no such record")


def test_a_name_without_such_records_is_absent() -> None:
    assert ask({NAME: ()}) == (Absent("no such record"),)


def test_the_target_dot_is_an_empty_host() -> None:
    assert ask({NAME: ("0 0 0 .",)}) == (Service((Target(0, 0, 0, ""),)),)


def test_a_name_server_that_is_silent_does_not_keep_us() -> None:
    (answer,) = ask({NAME: Oddity.SILENCE}, seconds=0.5)
    assert answer == Unreachable("no name server answered within 0.5 seconds")


def test_a_failing_name_server_is_no_answer() -> None:
    (answer,) = ask({NAME: Oddity.FAILURE})
    assert isinstance(answer, Unreachable)
    assert "SERVFAIL" in answer.reason


def test_garbage_and_records_of_another_name_are_not_believed() -> None:
    for oddity in (Oddity.GARBAGE, Oddity.OTHER_NAME):
        (answer,) = ask({NAME: oddity}, seconds=0.5)
        assert not isinstance(answer, Service)
        assert "\n" not in answer.reason


def test_without_a_name_server_nothing_is_reached() -> None:
    with NameServer({}) as server:
        port = server.port
    (answer,) = Dns(("127.0.0.1", port)).ask((NAME,), Deadline(0.5))
    assert isinstance(answer, Unreachable)
