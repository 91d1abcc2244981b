"""A session where the test plays client, monitor and agent: what real processes show only now and then."""

import gc
import os
import select
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from servers.scripted import ScriptedSmarthost

from sendooway.config import Configuration, UserSettings
from sendooway.early import EarlyDials
from sendooway.log import open_log
from sendooway.net.stream import SocketTransport, Stream
from sendooway.pool import Pool
from sendooway.privsep.channel import Channel, ChannelClosed, pair
from sendooway.privsep.messages import (
    AccountFound,
    AccountMissing,
    AgentWanted,
    LoginBegin,
    LoginDone,
    LoginRefused,
    LookUp,
    Message,
)
from sendooway.privsep.request import open_request
from sendooway.session import Peer, Proxy, Session


@dataclass
class Rig:
    session: Session
    client: socket.socket
    monitor: Channel
    stop: int
    early: EarlyDials
    log: Path

    def say(self, octets: bytes) -> None:
        self.client.sendall(octets)

    def agent(self) -> Channel:
        """The agent's end, when the session has asked for one."""
        message, descriptors = self.monitor.receive_descriptors(frozenset({AgentWanted}), 10)
        return open_request(message, descriptors, ()).end

    def heard(self) -> list[bytes]:
        """Codes of the lines that the client has got so far."""
        octets = b""
        while select.select([self.client], [], [], 0)[0] and (more := self.client.recv(65536)):
            octets += more
        return [line[:3] for line in octets.splitlines()]


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    client, ours = socket.socketpair()
    monitor, asked = pair()
    stopped, stop = os.pipe()
    pool, log = Pool(30), open_log(str(tmp_path / "log"))
    early = EarlyDials(pool, stopped)
    proxy = Proxy(
        configuration=Configuration(UserSettings("proxy.test")),
        server_context=None,
        client_context=ssl.create_default_context(),
        monitor=asked,
        log=log,
        pool=pool,
        stop=stopped,
        early=early,
    )
    stream = Stream(SocketTransport(ours), stopped)
    yield Rig(Session(proxy, stream, Peer("", local=True)), client, monitor, stop, early, tmp_path / "log")
    for closable in (pool, log, client, ours, monitor, asked):
        closable.close()
    os.close(stopped)
    os.close(stop)


def test_while_an_agent_takes_its_time_the_session_needs_no_thread(rig: Rig) -> None:
    rig.say(b"EHLO client.test\r\nAUTH PLAIN AHgAeA==\r\nNOOP\r\nQUIT\r\n")
    pause = rig.session.run()
    assert pause is not None
    agent = rig.agent()
    assert isinstance(agent.receive(frozenset({LoginBegin}), 10), LoginBegin)
    assert not select.select([pause.descriptor], [], [], 0)[0]
    assert set(rig.heard()) == {b"220", b"250"}
    agent.send(LoginRefused("refused", False))
    assert select.select([pause.descriptor], [], [], 10)[0]
    assert rig.session.run() is None
    assert rig.heard() == [b"535", b"250", b"221"]
    agent.close()


def test_a_server_that_stops_does_not_wait_for_an_agent(rig: Rig) -> None:
    rig.say(b"AUTH PLAIN AHgAeA==\r\n")
    assert rig.session.run() is not None
    agent = rig.agent()
    os.write(rig.stop, b"!")
    assert rig.session.run() is None
    assert rig.heard() == [b"220", b"421"]
    agent.close()


def test_an_agent_that_ends_in_a_pause_ends_the_session(rig: Rig) -> None:
    rig.say(b"AUTH PLAIN AHgAeA==\r\n")
    assert rig.session.run() is not None
    rig.agent().close()
    assert rig.session.run() is None
    assert rig.heard() == [b"220", b"421"]


def test_with_an_own_file_of_certificates_that_has_none_one_logs_in_and_trusts_nobody(rig: Rig) -> None:
    rig.say(b"AUTH PLAIN AHgAeA==\r\nNOOP\r\nQUIT\r\n")
    assert rig.session.run() is not None
    agent = rig.agent()
    with open(os.devnull, "rb") as file:
        agent.send(LoginDone("alice", "proxy.test", False, True, None, own_ca=True), [file.fileno()])
    assert rig.session.run() is None
    assert rig.heard() == [b"220", b"235", b"250", b"221"]
    agent.close()


# What it leaves behind


def test_of_a_session_that_is_over_nothing_waits_for_the_garbage_collector(rig: Rig) -> None:
    with ScriptedSmarthost() as smarthost:
        account = AccountFound(0, "rc:1", "", "127.0.0.1", smarthost.port, "none", True, b"alice at moon")
        rig.say(b"EHLO client.test\r\nAUTH PLAIN AHgAeA==\r\n" + MAIL + b"Hello\r\n.\r\nNO\r\nQUIT\r\n")
        gc.collect()
        gc.disable()
        assert rig.session.run() is not None
        agent = rig.agent()
        for answer in (DONE, account):
            agent.send(answer)
        assert rig.session.run() is None
    del rig.session
    gc.set_debug(gc.DEBUG_SAVEALL)
    gc.collect()
    left = {type(each) for each in gc.garbage if type(each).__module__.startswith("sendooway.")}
    gc.set_debug(0)
    gc.garbage.clear()
    gc.enable()
    agent.close()
    assert left == set()


# Dialling early

DONE = LoginDone("alice", "proxy.test", False, True, None, False)
MAIL = b"MAIL FROM:<alice@moon.test>\r\nRCPT TO:<bob@mars.test>\r\nDATA\r\n"


def questions(agent: Channel) -> list[Message]:
    """All that the session has asked its agent, beyond the login; the session is over."""
    asked: list[Message] = []
    with suppress(ChannelClosed):
        while True:
            asked.append(agent.receive(frozenset({LoginBegin, LookUp}), 10))
    return asked[1:]


def test_before_a_login_no_account_is_looked_up(rig: Rig) -> None:
    rig.early.accepted("x", "alice@moon.test", b"alice at moon")
    rig.say(b"EHLO client.test\r\nAUTH PLAIN AHgAeA==\r\nQUIT\r\n")
    assert rig.session.run() is not None
    agent = rig.agent()
    agent.send(LoginRefused("refused", False))
    assert rig.session.run() is None
    assert questions(agent) == []
    agent.close()


def test_after_a_login_the_account_used_last_is_looked_up_though_there_is_no_mail(rig: Rig) -> None:
    rig.early.accepted("alice", "alice@moon.test", b"alice at moon")
    rig.say(b"AUTH PLAIN AHgAeA==\r\nQUIT\r\n")
    assert rig.session.run() is not None
    agent = rig.agent()
    for answer in (DONE, AccountMissing(())):
        agent.send(answer)
    assert rig.session.run() is None
    assert rig.heard() == [b"220", b"235", b"221"]
    assert questions(agent) == [LookUp("alice@moon.test", ahead=True)]
    agent.close()


def test_a_mail_takes_the_connection_that_was_dialled_early_and_the_next_session_may_again(rig: Rig) -> None:
    rig.early.accepted("alice", "alice@moon.test", b"alice at moon")
    with ScriptedSmarthost() as smarthost:
        account = AccountFound(0, "rc:1", "", "127.0.0.1", smarthost.port, "none", True, b"alice at moon")
        rig.say(b"AUTH PLAIN AHgAeA==\r\n" + MAIL + b"Hello\r\n.\r\nQUIT\r\n")
        assert rig.session.run() is not None
        agent = rig.agent()
        for answer in (DONE, account, account):
            agent.send(answer)
        assert rig.session.run() is None
        assert rig.heard() == [b"220", b"235", b"250", b"250", b"354", b"250", b"221"]
        assert [command[:4] for command in smarthost.commands].count(b"EHLO") == 1
    assert questions(agent) == [LookUp("alice@moon.test", ahead=True), LookUp("alice@moon.test")]
    assert "reason=quit early=used" in rig.log.read_text()
    agent.close()


def test_an_agent_that_ends_while_an_account_is_dialled_early_ends_the_session_at_the_mail(rig: Rig) -> None:
    rig.early.accepted("alice", "alice@moon.test", b"alice at moon")
    rig.say(b"AUTH PLAIN AHgAeA==\r\nNOOP\r\n" + MAIL)
    assert rig.session.run() is not None
    agent = rig.agent()
    agent.receive(frozenset({LoginBegin}), 10)
    agent.send(DONE)
    agent.close()
    # There is no other agent for it.
    refusing = threading.Thread(target=lambda: rig.agent().close())
    refusing.start()
    assert rig.session.run() is None
    refusing.join()
    assert rig.heard() == [b"220", b"235", b"250", b"421"]
