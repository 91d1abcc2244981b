"""The way of a session's mails, where the test plays the agent."""

import socket
import ssl
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from servers.scripted import Fault, ScriptedSmarthost, Stage

from sendooway.log import open_log
from sendooway.net.stream import SocketTransport, Stream
from sendooway.pool import Pool
from sendooway.privsep.channel import Channel, pair
from sendooway.privsep.client import Agent
from sendooway.privsep.messages import AccountFound, AccountMissing, LookUp, LookUpFailed, Message
from sendooway.routing import NoRoute, Routing
from sendooway.smarthost import Smarthost, Wishes

ALICE, BOB = "alice@moon.test", "bob@mars.test"


@dataclass
class Rig:
    routing: Routing
    channel: Channel
    log: Path

    def reach(self, sender: str, answer: Message) -> Smarthost:
        """The agent is asked once, and answers so."""
        self.channel.send(answer)
        try:
            return self.routing.reach(sender)
        finally:
            assert self.channel.receive(frozenset({LookUp}), 10) == LookUp(sender)


@pytest.fixture
def smarthost() -> Iterator[ScriptedSmarthost]:
    with ScriptedSmarthost() as smarthost:
        yield smarthost


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    with ExitStack() as stack:
        pool, log = Pool(30), open_log(str(tmp_path / "log"))
        ours, channel = pair()
        client, sock = socket.socketpair()
        wishes = Wishes("proxy.test", None, ssl.create_default_context())
        stream = Stream(SocketTransport(sock))
        routing = Routing("alice", Agent(ours, 0.0), pool, None, wishes, stream, log)
        for close in (ours.close, channel.close, client.close, sock.close, log.close, pool.close, routing.cut):
            stack.callback(close)
        yield Rig(routing, channel, tmp_path / "log")


def account(smarthost: ScriptedSmarthost, number: int = 0) -> AccountFound:
    """Without a login, so that the agent need not be asked for one."""
    return AccountFound(number, "rc:1", "", "127.0.0.1", smarthost.port, "none", True, b"account %d" % number)


def greeted(smarthost: ScriptedSmarthost) -> int:
    """How many connections there were."""
    return [command[:4] for command in smarthost.commands].count(b"EHLO")


def test_the_next_mail_of_the_same_account_goes_through_the_smarthost_at_hand(
    rig: Rig, smarthost: ScriptedSmarthost
) -> None:
    first = rig.reach(ALICE, account(smarthost))
    assert rig.reach(BOB, account(smarthost)) is first
    assert greeted(smarthost) == 1


def test_for_the_same_sender_the_agent_is_not_asked_again_where_its_answer_is_lasting(
    rig: Rig, smarthost: ScriptedSmarthost
) -> None:
    lasting = replace(account(smarthost), lasting=True)
    first = rig.reach(ALICE, lasting)
    assert rig.routing.reach(ALICE) is first
    assert rig.reach(BOB, account(smarthost)) is first
    for _ in range(2):
        assert rig.reach(ALICE, replace(lasting, lasting=False)) is first


def test_a_lasting_answer_is_asked_for_again_when_its_smarthost_has_gone(rig: Rig) -> None:
    with ScriptedSmarthost(answers={Stage.RSET: [Fault.CLOSE]}) as smarthost:
        lasting = replace(account(smarthost), lasting=True)
        first = rig.reach(ALICE, lasting)
        first.in_mail = True
        assert rig.reach(ALICE, lasting) is not first


def test_a_lasting_answer_is_asked_for_again_when_another_smarthost_is_at_hand(
    rig: Rig, smarthost: ScriptedSmarthost
) -> None:
    lasting = [replace(account(smarthost, number), lasting=True) for number in (0, 1)]
    first, second = rig.reach(ALICE, lasting[0]), rig.reach(BOB, lasting[1])
    assert rig.reach(ALICE, lasting[0]) is first
    assert rig.routing.reach(ALICE) is first
    assert rig.reach(BOB, lasting[1]) is second


def test_a_mail_of_another_account_leaves_it_to_the_pool_from_where_it_comes_back(
    rig: Rig, smarthost: ScriptedSmarthost
) -> None:
    first = rig.reach(ALICE, account(smarthost))
    assert rig.reach(BOB, account(smarthost, 1)) is not first
    assert rig.reach(ALICE, account(smarthost)) is first
    assert greeted(smarthost) == 2
    assert "smarthost-kept" in rig.log.read_text()


def test_what_the_pool_must_not_keep_is_quit(rig: Rig, smarthost: ScriptedSmarthost) -> None:
    rig.reach(ALICE, replace(account(smarthost), fingerprint=b""))
    rig.routing.leave()
    rig.reach(ALICE, replace(account(smarthost), fingerprint=b""))
    assert greeted(smarthost) == 2
    assert "smarthost-kept" not in rig.log.read_text()


def test_what_was_cut_is_never_at_hand_again(rig: Rig, smarthost: ScriptedSmarthost) -> None:
    first = rig.reach(ALICE, account(smarthost))
    rig.routing.cut()
    assert rig.reach(ALICE, account(smarthost)) is not first
    assert greeted(smarthost) == 2


@pytest.mark.parametrize("answer", [Fault.CLOSE, Fault.HANG, b"451 4.3.0 Not now", b"250 2.0.0 Reset\r\n250 Twice"])
def test_a_smarthost_that_is_not_ready_again_is_replaced_and_asked_once(
    rig: Rig, answer: bytes | Fault, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sendooway.smarthost.RESET_SECONDS", 0.2)
    with ScriptedSmarthost(answers={Stage.RSET: [answer]}) as smarthost:
        first = rig.reach(ALICE, account(smarthost))
        first.in_mail = True
        assert rig.reach(ALICE, account(smarthost)) is not first
        assert smarthost.commands.count(b"RSET") == 1
        assert greeted(smarthost) == 2


@pytest.mark.parametrize(
    ("answer", "reply", "event"),
    [
        (
            AccountMissing(("/home/alice/.fetchmailrc", "direct: in rc:3")),
            "550 5.7.1 No account for <alice@moon.test> searched: /home/alice/.fetchmailrc, direct: in rc:3",
            'no-account sender="<alice@moon.test>" searched="/home/alice/.fetchmailrc direct: in rc:3"',
        ),
        (AccountMissing(()), "550 5.7.1 No account for <alice@moon.test> searched: no file", "no-account"),
        (
            LookUpFailed("rc:3: no host"),
            "451 4.3.0 Cannot look up <alice@moon.test> rc:3: no host",
            'look-up-failed sender="<alice@moon.test>" reason="rc:3: no host"',
        ),
    ],
)
def test_a_sender_without_account_has_no_route(rig: Rig, answer: Message, reply: str, event: str) -> None:
    with pytest.raises(NoRoute) as refused:
        rig.reach(ALICE, answer)
    assert str(refused.value.reply) == reply
    assert event in rig.log.read_text()


@pytest.mark.parametrize(
    ("words", "reply"),
    [
        (b"554 5.3.2 Not today", "451 4.4.1 {name}: greeting: it is not ready it said: 554 5.3.2 Not today"),
        (Fault.CLOSE, "451 4.4.1 {name}: greeting: it closed the connection"),
    ],
)
def test_to_a_smarthost_that_fails_there_is_no_route(rig: Rig, words: bytes | Fault, reply: str) -> None:
    with ScriptedSmarthost(answers={Stage.GREETING: [words]}) as smarthost:
        with pytest.raises(NoRoute) as refused:
            rig.reach(ALICE, account(smarthost))
        name = f"127.0.0.1:{smarthost.port} (account without login, rc:1)"
        assert str(refused.value.reply) == reply.format(name=name)
        assert 'smarthost-failed sender="<alice@moon.test>" stage=greeting' in rig.log.read_text()
