"""A session where the test plays client, monitor and agent: what real processes show only now and then."""

import os
import select
import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from sendooway.config import Configuration, UserSettings
from sendooway.log import open_log
from sendooway.net.stream import SocketTransport, Stream
from sendooway.pool import Pool
from sendooway.privsep.channel import Channel, pair
from sendooway.privsep.messages import AgentWanted, LoginBegin, LoginDone, LoginRefused
from sendooway.privsep.request import open_request
from sendooway.session import Peer, Proxy, Session


@dataclass
class Rig:
    session: Session
    client: socket.socket
    monitor: Channel
    stop: int

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
def rig() -> Iterator[Rig]:
    client, ours = socket.socketpair()
    monitor, asked = pair()
    stopped, stop = os.pipe()
    proxy = Proxy(
        configuration=Configuration(UserSettings("proxy.test")),
        server_context=None,
        client_context=ssl.create_default_context(),
        monitor=asked,
        log=open_log(os.devnull),
        pool=Pool(0),
        stop=stopped,
    )
    session = Session(proxy, Stream(SocketTransport(ours), stopped), Peer("", local=True))
    yield Rig(session, client, monitor, stop)
    for closable in (client, ours, monitor, asked):
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
