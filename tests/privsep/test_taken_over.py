"""A proxy that has been taken over tries whatever it likes, after somebody has logged in through it.

It runs as the proxy's user, as confined as that is, with all the descriptors that a proxy has.
"""

import ctypes
import json
import os
import pwd
import select
import signal
import socket
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from privsep.running import LOGIN_SECONDS, RunningMonitor
from servers.processes import wait_until
from servers.users import User

from sendooway.config import Configuration, Listen
from sendooway.log import Log
from sendooway.net.pause import Pause
from sendooway.net.stream import SocketTransport, Stream
from sendooway.privsep import acting, agents
from sendooway.privsep.channel import Channel
from sendooway.privsep.client import Agent, AgentError
from sendooway.privsep.messages import AccountFound, LoginBegin, LoginDone, LoginRefused, ProxyReady
from sendooway.secret import Secret
from sendooway.unix import privileges

pytestmark = pytest.mark.slow

ACCOUNT = """\
poll x.test user a pass b
  #sendooway:server {name}.test
  #sendooway:user {name}
  #sendooway:pass {name}-secret
  #sendooway:tls
  #sendooway:address {name}@moon.test
"""


class Grip:
    """What the intruder holds."""

    def __init__(self, monitor: Channel) -> None:
        self.monitor = monitor
        self.client, _ = socket.socketpair()
        self.agents: list[Agent] = []

    def agent(self, session: str = "") -> Agent:
        session = session or f"s{len(self.agents)}"
        self.agents.append(Agent.request(self.monitor, session, Stream(SocketTransport(self.client)), LOGIN_SECONDS))
        return self.agents[-1]

    def begin(self, name: str, password: str) -> Agent:
        """A login whose answer nobody waits for."""
        agent = self.agent()
        channel = agent._channel
        channel.send(LoginBegin("PLAIN", Secret(f"\0{name}\0{password}".encode())))
        return agent

    def log_in(self, name: str, password: str) -> bool:
        answer = self.agent().begin_login("PLAIN", f"\0{name}\0{password}".encode())
        return isinstance(self.agents[-1].login_answer() if isinstance(answer, Pause) else answer, LoginDone)

    def found(self, sender: str) -> object:
        try:
            answer = self.agents[0].look_up(sender)
        except AgentError as error:
            return str(error)
        return answer.host if isinstance(answer, AccountFound) else type(answer).__name__


def tried(*acts: Callable[[], object]) -> list[str]:
    """What the system says to each."""
    said = []
    for act in acts:
        try:
            said.append(f"done: {act()!r}")
        except OSError as error:
            said.append(str(error.strerror))
    return said


def opened(path: str) -> Callable[[], object]:
    def act() -> object:
        with open(path, "rb") as file:
            return file.read(1)

    return act


def traced(pid: int) -> Callable[[], object]:
    """PTRACE_ATTACH of ptrace(2)."""

    def act() -> object:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.ptrace(16, pid, 0, 0):
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        return pid

    return act


def killed(pid: int) -> Callable[[], object]:
    return lambda: os.kill(pid, signal.SIGTERM)


def intruder(acts: dict[str, Callable[..., object]]) -> Callable[..., int]:
    """A run_proxy: a connection's words are the name of an act, and its arguments; the answer is JSON."""

    def run(
        configuration: Configuration, listeners: Sequence[tuple[socket.socket, Listen]], monitor: Channel, log: Log
    ) -> int:
        nobody = pwd.getpwnam("nobody")
        ctypes.CDLL(None)  # which is no longer to be had afterwards
        privileges.drop_to(nobody.pw_uid, nobody.pw_gid, None)
        privileges.confine_files()
        monitor.send(ProxyReady())
        grip = Grip(monitor)
        while True:
            for sock in select.select([sock for sock, _ in listeners], [], [])[0]:
                connection, _ = sock.accept()
                with connection:
                    word, *arguments = connection.recv(1000).decode().split()
                    try:
                        answer = acts[word](grip, *arguments)
                    except Exception:
                        answer = traceback.format_exc()
                    connection.sendall(json.dumps(answer).encode())

    return run


def look_around(grip: Grip, agent: str, monitor: str, *paths: str) -> list[str]:
    pids = (agent, monitor)
    return tried(
        *(opened(path) for path in paths),
        *(opened(f"/proc/{pid}/{name}") for pid in pids for name in ("mem", "environ", "maps", "fd/3")),
        *(traced(int(pid)) for pid in pids),
        *(killed(int(pid)) for pid in pids),
        lambda: os.setresuid(0, 0, 0),
        lambda: os.setgroups([0]),
        lambda: os.chroot("/tmp"),  # noqa: S108
    )


def guess(grip: Grip, name: str, number: str, answers: str, seconds: str) -> list[float]:
    """So many guesses at the same time: when they were answered, until there are so many answers, or at the end."""
    begin = time.monotonic()
    waiting = {agent.fileno(): agent for agent in (grip.begin(name, f"guess{n}") for n in range(int(number)))}
    answered: list[float] = []
    while len(answered) < int(answers) and (left := begin + float(seconds) - time.monotonic()) > 0:
        for descriptor in select.select(list(waiting), [], [], left)[0]:
            agent = waiting.pop(descriptor)
            agent._channel.receive(frozenset({LoginRefused}), 1)
            answered.append(time.monotonic() - begin)
            agent.close()
    return answered


def tell_an_address(grip: Grip, port: str) -> None:
    """Of a connection with somebody who is no balancer."""
    with socket.socket() as client:
        client.connect(("127.0.0.1", int(port)))
        Agent.request(grip.monitor, "s0", Stream(SocketTransport(client)), LOGIN_SECONDS, told="198.51.100.1")
        signal.pause()


def try_to_be_ready_again(grip: Grip) -> object:
    for _ in range(3):
        grip.monitor.send(ProxyReady())
    return True


ACTS: dict[str, Callable[..., object]] = {
    "log-in": Grip.log_in,
    "found": Grip.found,
    "look-around": look_around,
    "guess": guess,
    "ready": try_to_be_ready_again,
    "tell-an-address": tell_an_address,
    "pid": lambda grip: os.getpid(),
    "agent-named": lambda grip, name: bool(grip.agent(name).begin_login("LOGIN", None)),
}


class Intrusion:
    def __init__(self, monitor: RunningMonitor) -> None:
        self.monitor = monitor

    def ask(self, *words: object) -> Any:
        return json.loads(self.monitor.ask(" ".join(map(str, words))) or "null")


@pytest.fixture
def _hasty_agents(monkeypatch: pytest.MonkeyPatch) -> None:
    """They wait less than half a minute for another session."""
    for kind in (acting, agents):
        monkeypatch.setattr(kind, "IDLE_SECONDS", 1.0)


@pytest.fixture
def intrusion(tmp_path: Path, alice: User, bob: User) -> Iterator[Intrusion]:
    for user in (alice, bob):
        user.write(".fetchmailrc", ACCOUNT.format(name=user.name))
    tmp_path.chmod(0o755)
    monitor = RunningMonitor(
        tmp_path, "authBackend = PAM\nmaxFailedLogins = 2\nproxyTrust = 192.0.2.1\n", intruder(ACTS)
    )
    wait_until(lambda: os.path.exists(monitor.path), "the socket")
    intrusion = Intrusion(monitor)
    assert intrusion.ask("log-in", alice.name, alice.password) is True
    yield intrusion
    monitor.close()


def test_it_gets_the_accounts_of_who_has_logged_in_through_it_and_of_no_other(
    intrusion: Intrusion, alice: User, bob: User
) -> None:
    assert intrusion.ask("found", f"{alice.name}@moon.test") == f"{alice.name}.test"
    for sender in (f"{bob.name}@moon.test", f"../{bob.name}/.fetchmailrc", "*", f"{bob.home}/.fetchmailrc", "%u"):
        assert intrusion.ask("found", sender) == "AccountMissing"


def test_it_reads_nothing_reaches_no_process_and_cannot_become_anyone(
    intrusion: Intrusion, alice: User, bob: User
) -> None:
    (agent,) = (pid for pid in intrusion.monitor.agents())
    paths = ["/etc/shadow", "/etc/passwd", alice.home / ".fetchmailrc", bob.home / ".fetchmailrc"]
    paths.append(intrusion.monitor.folder / "sendooway.conf")
    said = intrusion.ask("look-around", agent, intrusion.monitor.pid, *paths)
    assert {"Permission denied", "Operation not permitted"} >= set(said), said
    assert len(said) == len(paths) + 8 + 4 + 3


def test_it_guesses_no_faster_than_anybody(intrusion: Intrusion, alice: User, bob: User) -> None:
    # Two are free, the third waits for two seconds, the fourth for four, and so on: all at the same time or not.
    answered = intrusion.ask("guess", bob.name, 12, 4, 60)
    assert len(answered) == 4
    assert answered[2] >= 2
    assert answered[3] >= 4
    # Coming again changes nothing, and who was known before is not concerned.
    assert intrusion.ask("guess", bob.name, 4, 1, 2) == []
    assert intrusion.ask("log-in", alice.name, alice.password) is True


def test_it_cannot_forge_the_log_of_others(intrusion: Intrusion) -> None:
    before = intrusion.ask("pid")
    assert intrusion.ask("agent-named", "x-auth-failure") is not True
    wait_until(lambda: "proxy-misbehaves" in intrusion.monitor.log, "the end of the proxy")
    assert intrusion.ask("pid") != before


def test_it_cannot_tell_another_address_than_the_connections_own(intrusion: Intrusion) -> None:
    before = intrusion.ask("pid")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        assert intrusion.ask("tell-an-address", listener.getsockname()[1]) is None
    wait_until(lambda: "proxy-misbehaves" in intrusion.monitor.log, "the end of the proxy")
    assert "an address that nobody has told" in intrusion.monitor.log
    assert "198.51.100.1" not in intrusion.monitor.log
    assert intrusion.ask("pid") != before


def test_what_it_says_more_than_once_does_no_harm(intrusion: Intrusion) -> None:
    before = intrusion.ask("pid")
    assert intrusion.ask("ready") is True
    assert intrusion.ask("pid") == before


@pytest.mark.usefixtures("_hasty_agents")  # before the monitor, which inherits it
def test_the_agents_of_a_proxy_that_is_ended_end_with_it(intrusion: Intrusion) -> None:
    agents = intrusion.monitor.agents()
    os.kill(intrusion.ask("pid"), signal.SIGKILL)
    wait_until(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in agents), "the end of the agents")
