"""The monitor, a real process, with proxies that do as the test tells them over their listening socket."""

import os
import select
import signal
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from privsep.running import ME, QUICK
from servers.processes import is_running, wait_until

from sendooway.auth import pam
from sendooway.config import Configuration, Listen
from sendooway.log import Log
from sendooway.net.stream import PipeTransport, Stream
from sendooway.options import Options
from sendooway.privsep import monitor as monitors
from sendooway.privsep.channel import Channel
from sendooway.privsep.client import Agent, AgentError
from sendooway.privsep.messages import LookUp, ProxyReady
from sendooway.privsep.monitor import Monitor, StartError


def obedient_proxy(
    configuration: Configuration, listeners: Sequence[tuple[socket.socket, Listen]], monitor: Channel, log: Log
) -> int:
    """Answers each connection's one word, one after the other. `localname` tells it how to begin."""
    signal.signal(signal.SIGUSR1, lambda *_: os._exit(0))
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    match configuration.user_settings.localname:
        case "fails":
            return 77
        case "crashes":
            raise RuntimeError
        case "hangs":
            signal.pause()
        case "stays":
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
    monitor.send(ProxyReady())
    kept: list[Agent] = []
    while True:
        for sock in select.select([sock for sock, _ in listeners], [], [])[0]:
            try:
                connection, _ = sock.accept()
            except BlockingIOError:  # another proxy was quicker
                continue
            with connection:
                connection.sendall(str(obey(connection.recv(100).decode(), configuration, monitor, kept)).encode())


def obey(word: str, configuration: Configuration, monitor: Channel, kept: list[Agent]) -> object:
    match word.split():
        case ["pid"]:
            return os.getpid()
        case ["name"]:
            return configuration.user_settings.localname
        case ["die"]:
            os.kill(os.getpid(), signal.SIGKILL)
        case ["nonsense"]:
            os.write(monitor.fileno(), b"nonsense")
            signal.pause()
        case ["wrong"]:
            monitor.send(LookUp("a@b"))
            signal.pause()
        case ["ready-and-more"]:
            monitor.send(ProxyReady(), (0,))
            signal.pause()
        case ["agents", number]:
            return [
                lives(Agent.request(monitor, f"s{count}", standard_streams()), kept) for count in range(int(number))
            ]
        case ["log-in", name]:
            return type(kept[0].begin_login("PLAIN", b"\0%s\0x" % name.encode())).__name__
        case ["descriptors"]:
            paths = [f"/proc/self/fd/{number}" for number in os.listdir("/proc/self/fd") if int(number) > 2]
            # The one that listed them is closed by now.
            return [os.readlink(path) for path in paths if os.path.lexists(path)]
    return "?"


def standard_streams() -> Stream:
    return Stream(PipeTransport(0, 1))


def lives(agent: Agent, kept: list[Agent]) -> bool:
    kept.append(agent)
    try:
        agent.begin_login("LOGIN", None)
        agent.cancel_login()
    except AgentError:
        return False
    return True


class Running:
    """A monitor in a process of its own, which listens on a UNIX socket in `folder`."""

    def __init__(self, folder: Path, configuration: str) -> None:
        self.folder = folder
        self.path = str(folder / "socket")
        self._configuration = folder / "sendooway.conf"
        self.configure(configuration)
        self._reading, writing = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            status = 99
            try:
                options = Options(config=str(self._configuration), log=str(folder / "log"))
                status = Monitor(options, obedient_proxy, QUICK).run()
            except StartError as error:
                os.write(writing, str(error).encode())
                status = error.status
            finally:
                os._exit(status)
        os.close(writing)
        self._ended: int | None = None

    def configure(self, configuration: str) -> None:
        self._configuration.touch(0o600)
        backend = "" if "authBackend" in configuration else "authBackend = none"
        self._configuration.write_text(f"{backend}\nlisten = unix:{self.path}\n{configuration}\n")

    def reload(self, configuration: str) -> None:
        self.configure(configuration)
        os.kill(self.pid, signal.SIGHUP)

    def ask(self, word: str, path: str = "") -> str:
        """What a proxy answers, empty if it ends instead."""
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(10)
            wait_until(lambda: not sock.connect_ex(path or self.path), "the socket")
            sock.sendall(word.encode())
            try:
                return sock.recv(65536).decode()
            except ConnectionResetError:
                return ""

    @property
    def log(self) -> str:
        path = self.folder / "log"
        return path.read_text() if path.exists() else ""

    def wait_for_log(self, text: str) -> None:
        wait_until(lambda: text in self.log, f"{text} in the log")

    def status(self) -> int:
        """The exit status, waited for."""
        if self._ended is None:
            self._ended = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return self._ended

    def reason(self) -> str:
        """Why it did not start."""
        with open(self._reading, closefd=False) as pipe:
            return pipe.read()

    def close(self) -> None:
        if self._ended is None:
            os.kill(self.pid, signal.SIGKILL)
            self.status()
        os.close(self._reading)


Start = Callable[..., Running]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    running = []

    def run(configuration: str = "") -> Running:
        running.append(Running(tmp_path, configuration))
        return running[-1]

    yield run
    for monitor in running:
        monitor.close()


def test_it_serves_until_it_is_told_to_stop(start: Start) -> None:
    monitor = start()
    assert is_running(int(monitor.ask("pid")))
    os.kill(monitor.pid, signal.SIGTERM)
    assert monitor.status() == 0
    assert not os.path.exists(monitor.path)


def test_several_proxies_listen_on_the_same_socket(start: Start) -> None:
    monitor = start("workers = 3")
    monitor.wait_for_log("ready proxies=3")


@pytest.mark.parametrize("word", ["die", "nonsense", "wrong", "ready-and-more"])
def test_a_proxy_that_dies_or_has_been_taken_over_is_replaced(start: Start, word: str) -> None:
    monitor = start()
    first = monitor.ask("pid")
    assert monitor.ask(word) == ""
    begin = time.monotonic()
    second = monitor.ask("pid")
    assert time.monotonic() - begin < 1
    assert first != second
    assert not is_running(int(first))
    assert ("proxy-misbehaves" in monitor.log) == (word != "die")


def test_proxies_that_die_again_and_again_are_started_ever_more_slowly(start: Start) -> None:
    monitor = start()
    begin = time.monotonic()
    for _ in range(3):
        monitor.ask("die")
    monitor.ask("pid")
    assert 0.25 + 0.5 + 1.0 <= time.monotonic() - begin < 4


def test_a_proxy_has_nothing_of_the_monitor_s_but_its_sockets_and_the_log(start: Start) -> None:
    monitor = start()
    monitor.ask("agents 2")
    descriptors = monitor.ask("descriptors")
    assert "sendooway.conf" not in descriptors
    assert descriptors.count(str(monitor.folder / "log")) == 1
    # Listener, this connection, the monitor, two agents.
    assert descriptors.count("socket:[") == 5
    assert descriptors.count("pipe:[") == 0
    monitor.ask("die")
    assert monitor.ask("descriptors").count("socket:[") == 3


def test_agents_in_which_nobody_has_logged_in_are_limited(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(monitors, "MOST_NEWBORN", 2)
    monitor = start()
    assert monitor.ask("agents 3") == "[True, True, False]"
    monitor.wait_for_log("too-many-logins rip=local session=s2")
    assert monitor.ask(f"log-in {ME}") == "LoginDone"
    assert monitor.ask("agents 2") == "[True, False]"


def test_an_agent_that_is_killed_is_told_of_and_frees_its_place(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(monitors, "MOST_NEWBORN", 1)
    monitor = start()
    assert monitor.ask("agents 1") == "[True]"
    children = Path(f"/proc/{monitor.pid}/task/{monitor.pid}/children").read_text().split()
    (agent,) = set(children) - {monitor.ask("pid")}
    os.kill(int(agent), signal.SIGKILL)
    monitor.wait_for_log("agent-killed")
    assert f"process={agent} session=s0 signal=9" in monitor.log
    assert monitor.ask("agents 1") == "[True]"


@pytest.mark.parametrize(
    ("configuration", "status"),
    [("localname = fails", 77), ("localname = crashes", 70), ("localname = fails\nworkers = 4", 77)],
)
def test_a_proxy_that_cannot_begin_ends_it_with_its_status(start: Start, configuration: str, status: int) -> None:
    monitor = start(configuration)
    assert monitor.status() == status
    assert "start-failed" in monitor.log
    assert not os.path.exists(monitor.path)


def test_proxies_that_are_never_ready_end_it(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(monitors, "READY_SECONDS", 0.1)
    assert start("localname = hangs").status() == 70


@pytest.mark.parametrize(
    ("configuration", "status", "reason"),
    [
        ("speed = 9", 78, "sendooway.conf:3"),
        ("listen = unix:/nonexistent/socket", 71, "cannot listen on unix:/nonexistent/socket"),
    ],
)
def test_a_configuration_that_cannot_be_used_ends_it(
    start: Start, configuration: str, status: int, reason: str
) -> None:
    monitor = start(configuration)
    assert monitor.status() == status
    assert reason in monitor.reason()


def test_a_pam_service_that_does_not_exist_ends_it(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pam, "SERVICE_FILES", ("/nonexistent/sendooway",))
    monitor = start("authBackend = PAM")
    assert monitor.status() == 78
    assert "there is no /nonexistent/sendooway" in monitor.reason()


def test_a_log_that_cannot_be_opened_ends_it(tmp_path: Path) -> None:
    with pytest.raises(StartError, match="cannot open the log") as caught:
        monitors._open(str(tmp_path / "absent" / "log"))
    assert caught.value.status == 73


def test_a_new_configuration_is_for_new_proxies_on_the_same_sockets(start: Start, tmp_path: Path) -> None:
    monitor = start("localname = old\nworkers = 2")
    assert monitor.ask("name") == "old"
    inode = os.stat(monitor.path).st_ino
    monitor.reload(f"localname = new\nlisten = unix:{tmp_path}/more")
    monitor.wait_for_log("reloaded proxies=1")
    wait_until(lambda: monitor.ask("name") == "new", "the new proxy")
    assert monitor.ask("name", f"{tmp_path}/more") == "new"
    assert os.stat(monitor.path).st_ino == inode
    monitor.reload("localname = newest")
    wait_until(lambda: monitor.ask("name") == "newest", "the newest proxy")
    wait_until(lambda: not os.path.exists(f"{tmp_path}/more"), "the end of the socket that is gone")


@pytest.mark.parametrize(
    "configuration",
    ["speed = 9", "localname = fails", "localname = crashes", "localname = hangs", "listen = unix:/nonexistent/socket"],
)
def test_a_bad_configuration_is_refused_and_the_old_one_kept(
    start: Start, configuration: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(monitors, "READY_SECONDS", 0.3)
    monitor = start("localname = old")
    pid = monitor.ask("pid")
    monitor.reload(configuration)
    monitor.wait_for_log("reload-refused")
    assert (monitor.ask("pid"), monitor.ask("name")) == (pid, "old")
    monitor.reload("localname = new")
    wait_until(lambda: monitor.ask("name") == "new", "the new proxy")


def test_a_proxy_that_does_not_stop_is_killed_in_the_end(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(monitors, "STOP_SECONDS", 0.2)
    monitor = start("localname = stays")
    pid = int(monitor.ask("pid"))
    begin = time.monotonic()
    os.kill(monitor.pid, signal.SIGTERM)
    assert monitor.status() == 0
    assert time.monotonic() - begin >= 0.2
    assert not is_running(pid)
