"""The monitor, a real process, with proxies that do as the test tells them over their listening socket."""

import os
import resource
import select
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from privsep.running import LOGIN_SECONDS, ME, RunningMonitor
from servers.processes import PATIENCE, is_running, wait_until

from sendooway.auth import login, pam
from sendooway.auth.identity import Identity, LoginError, Verdict
from sendooway.config import Configuration, Listen
from sendooway.log import Log
from sendooway.net.pause import Pause
from sendooway.net.stream import PipeTransport, Stream
from sendooway.privsep import acting, agent, agents, failures, request
from sendooway.privsep import monitor as monitors
from sendooway.privsep.channel import Channel
from sendooway.privsep.client import Agent, AgentError
from sendooway.privsep.messages import (
    MESSAGES,
    AgentWanted,
    CheckEnded,
    CheckPassed,
    CheckWanted,
    LookUp,
    Message,
    ProxyReady,
    SaslContinue,
)
from sendooway.privsep.monitor import StartError, longer
from sendooway.privsep.notify import Notify
from sendooway.sasl import PasswordLogin
from sendooway.secret import Secret

pytestmark = pytest.mark.slow


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
        case "late":  # it is ready only when it is told to stop
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
            log.event("begun")
            signal.sigwait({signal.SIGTERM})
            monitor.send(ProxyReady())
            return 0
        case "stays":
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            signal.signal(signal.SIGUSR1, signal.SIG_IGN)
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
                lives(Agent.request(monitor, f"s{len(kept)}", standard_streams(), LOGIN_SECONDS), kept)
                for _ in range(int(number))
            ]
        case ["send", name]:
            kind = next(kind for kind in MESSAGES if kind.__name__ == name)
            monitor.send(kind(**{field.name: ANYTHING[field.type] for field in fields(kind)}))
            signal.pause()
        case ["log-in", number, name]:
            return logged_in(kept[int(number)], name)
        case ["session-of", name]:
            kept.append(Agent.request(monitor, f"s{len(kept)}", standard_streams(), LOGIN_SECONDS, user=name.lower()))
            return logged_in(kept[-1], name)
        case ["look-up", number]:
            return type(kept[int(number)].look_up("a@b.test")).__name__
        case ["out-of-order", number]:
            kept[int(number)]._channel.send(SaslContinue(b""))
        case ["end", number]:
            kept[int(number)].close()
        case ["begin-log-in", number, name]:
            return type(kept[int(number)].begin_login("PLAIN", b"\0%s\0x" % name.encode())).__name__
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
        answer_to_login(agent, "LOGIN", None)
        agent.cancel_login()
    except AgentError:
        return False
    return True


def logged_in(agent: Agent, name: str) -> str:
    return type(answer_to_login(agent, "PLAIN", b"\0%s\0x" % name.encode())).__name__


def answer_to_login(agent: Agent, mechanism: str, initial_response: bytes | None) -> object:
    answer = agent.begin_login(mechanism, initial_response)
    return agent.login_answer() if isinstance(answer, Pause) else answer


Start = Callable[..., RunningMonitor]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    running = []

    def run(configuration: str = "", **more: Any) -> RunningMonitor:
        running.append(RunningMonitor(tmp_path, configuration, obedient_proxy, **more))
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


def test_when_it_has_been_told_to_stop_it_begins_no_further_proxy(start: Start) -> None:
    monitor = start("localname = late\nworkers = 3")
    monitor.wait_for_log("begun")
    os.kill(monitor.pid, signal.SIGTERM)
    assert monitor.status() == 0
    assert monitor.log.count("begun") == 1


def test_several_proxies_listen_on_the_same_socket(start: Start) -> None:
    monitor = start("workers = 3")
    monitor.wait_for_log("ready proxies=3")


# What a message may hold.
ANYTHING: dict[Any, Any] = {
    str: "x",
    bool: True,
    int: 1,
    int | None: None,
    bytes: b"x",
    Secret: Secret(b"x"),
    Secret | None: None,
    tuple[str, ...]: ("x",),
}
NOT_FOR_THE_MONITOR = [f"send {kind.__name__}" for kind in MESSAGES if kind not in (ProxyReady, AgentWanted)]


@pytest.mark.parametrize(
    "word", ["die", "nonsense", "wrong", "ready-and-more", "send AgentWanted", *NOT_FOR_THE_MONITOR]
)
def test_a_proxy_that_dies_or_has_been_taken_over_is_replaced(start: Start, word: str) -> None:
    monitor = start()
    first = monitor.ask("pid")
    assert monitor.ask(word) == ""
    assert monitor.ask("pid") != first
    assert not is_running(int(first))
    assert ("proxy-misbehaves" in monitor.log) == (word != "die")


def test_a_proxy_that_dies_is_replaced_within_a_second() -> None:
    # The next one is ready a few milliseconds later: it is a fork.
    assert monitors.FIRST_PAUSE <= 0.5


def test_proxies_that_die_again_and_again_are_started_ever_more_slowly(start: Start) -> None:
    monitor = start()
    begin = time.monotonic()
    for _ in range(3):
        monitor.ask("die")
    monitor.ask("pid")
    assert time.monotonic() - begin >= 0.25 + 0.5 + 1.0


def test_they_are_started_however_often_they_die() -> None:
    pause = 0.0
    for _ in range(2000):
        pause = longer(pause)
    assert pause == monitors.LONGEST_PAUSE


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


def test_agents_in_which_nobody_has_logged_in_are_limited(start: Start) -> None:
    monitor = start("maxUnauthenticated = 2")
    assert monitor.ask("agents 3") == "[True, True, False]"
    monitor.wait_for_log("too-many-logins rip=local session=s2")
    assert monitor.ask(f"log-in 0 {ME}") == "LoginDone"
    assert monitor.ask("agents 2") == "[True, False]"


def test_a_user_has_so_many_sessions_and_one_that_ends_makes_room(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(request, "peer_address", lambda _: "192.0.2.7")
    monitor = start("maxSessionsPerUser = 2")
    monitor.ask("agents 4")
    assert [monitor.ask(f"log-in {number} {ME}") for number in range(3)] == ["LoginDone", "LoginDone", "LoginRefused"]
    monitor.wait_for_log(f"too-many-sessions rip=192.0.2.7 user={ME} session=s2")
    monitor.ask("end 0")

    def has_room() -> bool:
        return monitor.ask(f"session-of {ME}") == "LoginDone"

    wait_until(has_room, "a place")


def test_a_session_whose_agent_its_user_has_killed_takes_its_place_all_the_same(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(request, "peer_address", lambda _: "192.0.2.7")
    monitor = start("maxSessionsPerUser = 1")
    assert monitor.ask(f"session-of {ME}") == "LoginDone"
    (agent,) = monitor.agents()
    os.kill(agent, signal.SIGKILL)
    monitor.wait_for_log(f"agent-killed process={agent} session=s0")
    assert monitor.ask(f"session-of {ME}") == "LoginRefused"
    assert monitor.ask("look-up 0") == "AccountMissing"


def test_there_are_no_more_agents_than_two_for_each_session_that_may_be(start: Start) -> None:
    monitor = start("maxSessions = 2")
    for number in range(4):
        assert monitor.ask("agents 1") == "[True]", number
        assert monitor.ask(f"log-in {number} {ME}") == "LoginDone"
    assert monitor.ask("agents 1") == "[False]"
    monitor.wait_for_log("too-many-logins")


def test_sessions_of_a_user_on_this_machine_do_not_count(start: Start) -> None:
    monitor = start("maxSessionsPerUser = 1")
    monitor.ask("agents 3")
    assert [monitor.ask(f"log-in {number} {ME}") for number in range(3)] == ["LoginDone"] * 3


def test_after_too_many_failures_a_user_waits(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(failures, "FIRST_DELAY", 0.25)
    monitor = start("maxFailedLogins = 2")
    monitor.ask("agents 6")
    for number in (0, 1):
        assert monitor.ask(f"log-in {number} nobody-here") == "LoginRefused"
    assert "login-delayed" not in monitor.log
    for number, seconds in ((2, 0.25), (3, 0.5)):
        begin = time.monotonic()
        assert monitor.ask(f"log-in {number} Nobody-Here") == "LoginRefused"
        assert time.monotonic() - begin >= seconds
        assert f"user=Nobody-Here seconds={seconds:.3f} session=s{number}" in monitor.log
    # Those who guess at the same time wait for each other, too. Nobody else does.
    assert monitor.ask(f"log-in 4 {ME}") == "LoginDone"
    assert monitor.log.count("login-delayed") == 2


def test_so_many_logins_are_checked_at_the_same_time(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def verify(claim: PasswordLogin, *_: object, **__: object) -> Identity:
        (tmp_path / f"checking-{claim.authcid}").touch()
        wait_until((tmp_path / f"checked-{claim.authcid}").exists, "the end of the check")
        raise LoginError(Verdict.REFUSED, "slowly")

    monkeypatch.setattr(login, "verify", verify)
    monitor = start("maxLoginChecks = 2")
    monitor.ask("agents 4")

    def checking() -> set[str]:
        return {path.name.removeprefix("checking-") for path in tmp_path.glob("checking-*")}

    for user in range(4):
        assert monitor.ask(f"begin-log-in {user} user{user}") == "Pause"
        if user < 2:
            wait_until(lambda: len(checking()) == user + 1, "a check")  # noqa: B023
    assert checking() == {"user0", "user1"}
    for user in range(2):
        (tmp_path / f"checked-user{user}").touch()
        wait_until(lambda: len(checking()) == 3 + user, "the next check")  # noqa: B023
    # One that is killed at its check makes room, too; that it was no guess, nobody can know.
    monitor.ask("agents 1")
    for pid in monitor.agents():
        os.kill(pid, signal.SIGKILL)
    monitor.ask("agents 1")
    (tmp_path / "checked-new").touch()
    assert monitor.ask("log-in 5 new") == "LoginRefused"


def test_of_checks_that_take_long_there_are_more_than_cores(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def verify(claim: PasswordLogin, *_: object, **__: object) -> Identity:
        (tmp_path / f"checking-{claim.authcid}").touch()
        wait_until((tmp_path / "checked").exists, "the end of the checks")
        raise LoginError(Verdict.REFUSED, "slowly")

    monkeypatch.setattr(login, "verify", verify)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0})
    monkeypatch.setattr(agents, "CORE_SECONDS", 0.5)
    monitor = start("maxLoginChecks = 2")
    monitor.ask("agents 3")
    for number in range(3):
        monitor.ask(f"begin-log-in {number} user{number}")
    wait_until(lambda: len(list(tmp_path.glob("checking-*"))) == 2, "the second check")
    first, second = sorted(path.stat().st_mtime for path in tmp_path.glob("checking-*"))
    assert second - first >= 0.4
    (tmp_path / "checked").touch()
    wait_until(lambda: len(list(tmp_path.glob("checking-*"))) == 3, "the third check")


def test_the_second_login_of_a_user_has_a_process_and_the_third_needs_none(start: Start) -> None:
    monitor = start()
    found = []
    for _ in range(4):
        assert monitor.ask(f"session-of {ME}") == "LoginDone"
        found.append(monitor.agents())
    # The first one is the user, the second checks logins.
    assert [len(pids) for pids in found] == [1, 2, 2, 2]
    assert found[1] == found[3]
    assert [monitor.ask(f"look-up {number}") for number in range(4)] == ["AccountMissing"] * 4


def test_so_many_processes_wait_for_logins_and_the_newest_stay(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agents, "MAX_FREE", 1)
    monitor = start()
    monitor.ask("agents 3")
    # The first becomes the user; the others leave their sessions to it.
    assert [monitor.ask(f"log-in {number} {ME}") for number in range(3)] == ["LoginDone"] * 3
    wait_until(lambda: len(monitor.agents()) == 2, "the end of one that has nothing to do")
    newest = monitor.agents()[-1]
    assert monitor.ask(f"session-of {ME}") == "LoginDone"
    assert monitor.agents()[-1] == newest


def test_a_process_that_has_refused_a_login_checks_no_other_session(start: Start) -> None:
    monitor = start()
    monitor.ask(f"session-of {ME}")
    assert monitor.ask("agents 1") == "[True]"
    refusing = set(monitor.agents())
    assert monitor.ask("log-in 1 nobody-here") == "LoginRefused"
    assert monitor.ask(f"log-in 1 {ME}") == "LoginDone"
    wait_until(lambda: len(monitor.agents()) == 1, "the end of the process that has refused")
    assert set(monitor.agents()) < refusing


def test_processes_without_sessions_end_when_nobody_comes(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agents, "IDLE_SECONDS", 0.3)
    monkeypatch.setattr(acting, "IDLE_SECONDS", 0.6)
    monitor = start()
    for _ in range(2):
        monitor.ask(f"session-of {ME}")
    wait_until(lambda: len(monitor.agents()) == 1, "the end of the one that checks logins")
    for number in range(2):
        monitor.ask(f"end {number}")
    wait_until(lambda: not monitor.agents(), "the end of the user's agent")
    assert monitor.ask(f"session-of {ME}") == "LoginDone"


def test_the_sessions_of_a_killed_agent_go_on_with_others(start: Start) -> None:
    monitor = start()
    for _ in range(2):
        monitor.ask(f"session-of {ME}")
    for _ in range(5):
        # The proxy may ask before the monitor knows.
        for pid in monitor.agents():
            with suppress(ProcessLookupError):  # one from before, of which the monitor knows now
                os.kill(pid, signal.SIGKILL)
        assert [monitor.ask(f"look-up {number}") for number in range(2)] == ["AccountMissing"] * 2
    wait_until(lambda: monitor.log.count("agent-replaced") == 10, "the last line")
    assert monitor.log.count(" login ") == 2


def test_an_agent_that_ends_because_of_a_session_does_not_end_the_others(start: Start) -> None:
    monitor = start()
    for _ in range(3):
        monitor.ask(f"session-of {ME}")
    monitor.ask("out-of-order 1")
    assert [monitor.ask(f"look-up {number}") for number in (0, 2)] == ["AccountMissing"] * 2
    assert monitor.ask("look-up 1") == ""


def test_a_session_that_goes_on_with_another_agent_is_told_its_settings_only_once(start: Start, tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.touch(0o600)
    own.write_text(f"sslCA = {own}\n")
    monitor = start(f"userInclude = {own}")
    assert monitor.ask(f"session-of {ME}") == "LoginDone"
    (agent,) = monitor.agents()
    os.kill(agent, signal.SIGKILL)
    assert monitor.ask("look-up 0") == "AccountMissing"


@pytest.mark.parametrize(
    "said", [CheckPassed("root", 0, 0, "/root", "PLAIN"), CheckEnded(True), LookUp("a@b"), ProxyReady()]
)
def test_an_agent_that_does_not_keep_to_the_protocol_is_ended(
    said: Message, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    def misbehave(*arguments: Any) -> int:
        arguments[5].send(said)
        signal.pause()
        return 0

    monkeypatch.setattr(agent, "run", misbehave)
    monitor = start("maxUnauthenticated = 1")
    assert monitor.ask("agents 1") == "[False]"
    monitor.wait_for_log("agent-misbehaves")
    assert monitor.ask("agents 1") == "[False]"
    wait_until(lambda: monitor.log.count("agent-misbehaves") == 2, "the next one")
    assert "too-many-logins" not in monitor.log


def lowest_free(monitor: RunningMonitor) -> int:
    """The number of the descriptor that it would open next. To be asked while nothing comes and goes."""
    monitor.wait_for_log("ready")  # before, it may still have the proxy's end of their channel
    taken = set(map(int, os.listdir(f"/proc/{monitor.pid}/fd")))
    return min(set(range(len(taken) + 1)) - taken)


@contextmanager
def no_room(monitor: RunningMonitor, descriptors: int) -> Iterator[None]:
    soft, hard = resource.prlimit(monitor.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(monitor.pid, resource.RLIMIT_NOFILE, (descriptors, hard))
    yield
    resource.prlimit(monitor.pid, resource.RLIMIT_NOFILE, (soft, hard))


def test_a_right_password_for_which_there_is_no_room_is_no_failure(start: Start) -> None:
    monitor = start("maxFailedLogins = 1")
    descriptors = lowest_free(monitor)
    monitor.ask("agents 1")
    with no_room(monitor, descriptors):
        assert monitor.ask(f"log-in 0 {ME}") == ""
    monitor.wait_for_log("no-agent session=s0")
    assert monitor.ask(f"session-of {ME}") == "LoginDone"
    assert "login-delayed" not in monitor.log


def test_the_end_of_a_child_is_survived_without_room(start: Start) -> None:
    monitor = start()
    descriptors = lowest_free(monitor)
    assert monitor.ask("agents 1") == "[True]"
    (agent,) = monitor.agents()
    with no_room(monitor, descriptors):
        os.kill(agent, signal.SIGKILL)
        monitor.wait_for_log("agent-killed")
        assert monitor.ask("agents 1") == "[False]"
    assert monitor.ask("agents 1") == "[True]"


def test_what_an_agent_has_said_before_its_end_kills_nobody_who_has_its_number_now(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    def misbehave(*arguments: Any) -> int:
        os.kill(os.getppid(), signal.SIGSTOP)
        arguments[5].send(CheckEnded(True))
        return 0

    monkeypatch.setattr(agent, "run", misbehave)
    monitor = start()
    monitor.ask("pid")
    asking = threading.Thread(target=monitor.ask, args=("agents 1",))
    asking.start()
    wait_until(lambda: not all(map(is_running, monitor.children())), "the end of the agent")
    os.kill(monitor.pid, signal.SIGCONT)
    asking.join()
    monitor.wait_for_log("agent-misbehaves")
    assert is_running(int(monitor.ask("pid")))


def test_an_agent_that_has_ended_before_its_last_words_are_heard_takes_no_place(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    def end_early(*arguments: Any) -> int:
        os.kill(os.getppid(), signal.SIGSTOP)
        arguments[5].send(CheckWanted(ME))  # and its end has been heard of before the next
        arguments[5].send(CheckPassed(ME, os.getuid(), os.getgid(), "/", "PLAIN"))
        return 0

    monkeypatch.setattr(agent, "run", end_early)
    monitor = start()
    monitor.ask("pid")
    asking = threading.Thread(target=monitor.ask, args=("agents 1",))
    asking.start()
    wait_until(lambda: not all(map(is_running, monitor.children())), "the end of the agent")
    os.kill(monitor.pid, signal.SIGCONT)
    asking.join()
    os.kill(monitor.pid, signal.SIGTERM)
    assert monitor.status() == 0  # it sends a signal to all that it knows of


def test_an_agent_that_is_killed_is_told_of_and_frees_its_place(start: Start) -> None:
    monitor = start("maxUnauthenticated = 1")
    assert monitor.ask("agents 1") == "[True]"
    (agent,) = monitor.agents()
    os.kill(agent, signal.SIGKILL)
    monitor.wait_for_log("agent-killed")
    assert f"process={agent} session=s0 signal=9" in monitor.log
    assert monitor.ask("agents 1") == "[True]"


@pytest.mark.parametrize(
    ("configuration", "status"),
    [("localname = fails", 77), ("localname = crashes", 70), ("localname = crashes\nworkers = 4", 70)],
)
def test_a_proxy_that_cannot_begin_ends_it_with_its_status(start: Start, configuration: str, status: int) -> None:
    monitor = start(configuration)
    assert monitor.status() == status
    assert "start-failed" in monitor.log
    # As others would fail for the same reason, they are not even begun.
    assert monitor.log.count("process-failed") == ("crashes" in configuration)
    assert not os.path.exists(monitor.path)


def test_proxies_that_are_never_ready_end_it(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(monitors, "READY_SECONDS", 0.1)
    assert start("localname = hangs").status() == 70


@pytest.mark.parametrize(
    ("configuration", "status", "reason"),
    [
        ("speed = 9", 78, "sendooway.conf:4"),
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
    if "hangs" in configuration:
        monkeypatch.setattr(monitors, "READY_SECONDS", 3.0)  # in which the others have to be ready
    monitor = start("localname = old")
    pid = monitor.ask("pid")
    monitor.reload(configuration)
    monitor.wait_for_log("reload-refused")
    assert (monitor.ask("pid"), monitor.ask("name")) == (pid, "old")
    monitor.reload("localname = new")
    wait_until(lambda: monitor.ask("name") == "new", "the new proxy")


def test_a_log_that_was_rotated_away_is_opened_anew_also_if_the_configuration_is_refused(
    start: Start, tmp_path: Path
) -> None:
    monitor = start("localname = old")
    pid = monitor.ask("pid")
    (tmp_path / "log").rename(tmp_path / "log.1")
    monitor.reload("speed = 9")
    monitor.wait_for_log("reloaded proxies=1")
    assert "reload-refused" in monitor.log
    assert "reload-refused" in (tmp_path / "log.1").read_text()
    wait_until(lambda: monitor.ask("pid") != pid, "a proxy with the new log")
    assert monitor.ask("name") == "old"
    assert f"{tmp_path}/log'" in monitor.ask("descriptors")


def test_without_room_the_log_is_not_opened_anew_and_all_goes_on(start: Start, tmp_path: Path) -> None:
    monitor = start()
    descriptors = lowest_free(monitor)
    before = os.listdir(f"/proc/{monitor.pid}/fd")
    (tmp_path / "log").rename(tmp_path / "log.1")
    with no_room(monitor, descriptors + 1):
        os.kill(monitor.pid, signal.SIGHUP)
        wait_until(lambda: "log-not-renewed" in (tmp_path / "log.1").read_text(), "the reason")
    assert os.listdir(f"/proc/{monitor.pid}/fd") == before
    monitor.reload("localname = new")
    wait_until(lambda: monitor.ask("name") == "new", "the new proxy")


def test_what_is_not_its_socket_any_more_is_left_alone(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(monitors, "STOP_SECONDS", 0.2)
    more = tmp_path / "more"
    monitor = start(f"localname = stays\nlisten = unix:{more}")
    monitor.wait_for_log("ready")
    monitor.reload("")
    monitor.wait_for_log("reloaded")
    wait_until(lambda: not more.exists(), "the end of the socket")
    more.touch()
    os.unlink(monitor.path)
    os.mkdir(monitor.path)
    os.kill(monitor.pid, signal.SIGTERM)
    assert monitor.status() == 0
    assert more.exists()


def test_while_it_waits_for_sessions_to_end_it_does_nothing(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(monitors, "STOP_SECONDS", 1.0)
    monitor = start("localname = stays\nworkers = 2")
    monitor.wait_for_log("ready")
    os.kill(monitor.pid, signal.SIGTERM)
    monitor.wait_for_log("stopping")
    os.kill(monitor.children()[0], signal.SIGKILL)
    wait_until(lambda: len(monitor.children()) == 1, "the end of a proxy")
    before = ticks_at_work(monitor.pid)
    time.sleep(0.3)
    assert ticks_at_work(monitor.pid) - before < 10
    assert monitor.status() == 0


def ticks_at_work(pid: int) -> int:
    """In its own code and in the kernel, in hundredths of a second."""
    # The name in brackets may have spaces.
    return sum(map(int, Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]))


def test_a_proxy_that_does_not_stop_is_killed_in_the_end(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(monitors, "STOP_SECONDS", 0.2)
    monitor = start("localname = stays")
    pid = int(monitor.ask("pid"))
    begin = time.monotonic()
    os.kill(monitor.pid, signal.SIGTERM)
    assert monitor.status() == 0
    assert time.monotonic() - begin >= 0.2
    assert not is_running(pid)


# Sockets that were open before, and a service manager that listens


@pytest.fixture
def inherited(tmp_path: Path) -> Iterator[tuple[socket.socket, Listen]]:
    """A socket that listens at `tmp_path`/inherited."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(f"{tmp_path}/inherited")
        sock.listen()
        sock.setblocking(False)
        yield sock, Listen(path=f"{tmp_path}/inherited", inherited=True)


def test_inherited_sockets_take_the_place_of_listen_lines(
    start: Start, inherited: tuple[socket.socket, Listen]
) -> None:
    monitor = start("localname = old", inherited=[inherited])
    assert monitor.ask("name", inherited[1].path) == "old"
    assert not os.path.exists(monitor.path)
    assert "the sockets in LISTEN_FDS replace the `listen` lines" in monitor.log


def test_inherited_sockets_outlive_reloads_and_are_not_removed_in_the_end(
    start: Start, inherited: tuple[socket.socket, Listen]
) -> None:
    path = inherited[1].path
    monitor = start("localname = old", inherited=[inherited])
    monitor.wait_for_log("ready")
    for name in ("new", "newer"):
        monitor.reload(f"localname = {name}\nworkers = 2")
        wait_until(lambda name=name: monitor.ask("name", path) == name, "the new proxies")  # type: ignore[misc]
    monitor.reload("localname = fails")
    monitor.wait_for_log("reload-refused")
    wait_until(lambda: len(monitor.children()) == 2, "the end of the proxies before")
    assert monitor.ask("name", path) == "newer"
    os.kill(monitor.pid, signal.SIGTERM)
    assert monitor.status() == 0
    assert os.path.exists(path)


class Manager:
    """Hears what the monitor tells."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock

    def hear(self) -> list[str]:
        """The lines of the next message."""
        return self._sock.recv(4096).decode().split("\n")

    def hear_until(self, line: str) -> list[list[str]]:
        """All messages up to and with the first that has this line."""
        heard = [self.hear()]
        while line not in heard[-1]:
            heard.append(self.hear())
        return heard

    def hears_nothing_for(self, seconds: float) -> bool:
        return not select.select([self._sock], [], [], seconds)[0]


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(f"{tmp_path}/notify")
        sock.settimeout(PATIENCE)
        yield Manager(sock)


def test_a_service_manager_hears_of_start_reload_and_stop(start: Start, manager: Manager, tmp_path: Path) -> None:
    monitor = start("workers = 2", manager=Notify(f"{tmp_path}/notify"))
    assert manager.hear() == ["READY=1", "STATUS=2 of 2 proxies serve"]
    monitor.reload("workers = 1")
    assert manager.hear()[0] == "RELOADING=1"
    assert manager.hear() == ["READY=1", "STATUS=1 of 1 proxies serve"]
    os.kill(monitor.pid, signal.SIGTERM)
    assert manager.hear()[0] == "STOPPING=1"
    assert monitor.status() == 0


@pytest.mark.parametrize(
    ("configuration", "reason"), [("speed = 9", "sendooway.conf:4"), ("localname = fails", "a proxy ended")]
)
def test_a_service_manager_hears_that_a_reload_is_over_also_if_it_is_refused_and_why(
    start: Start, manager: Manager, tmp_path: Path, configuration: str, reason: str
) -> None:
    monitor = start(manager=Notify(f"{tmp_path}/notify"))
    assert manager.hear()[0] == "READY=1"
    monitor.reload(configuration)
    assert manager.hear()[0] == "RELOADING=1"
    ready, status = manager.hear()
    assert ready == "READY=1"
    assert status.startswith("STATUS=1 of 1 proxies serve; refused the new configuration: ")
    assert reason in status


def test_a_service_manager_hears_why_there_is_no_start(start: Start, manager: Manager, tmp_path: Path) -> None:
    monitor = start("localname = fails", manager=Notify(f"{tmp_path}/notify"))
    assert manager.hear() == ["STATUS=a proxy ended with status 77 before all were ready"]
    assert monitor.status() == 77


def test_a_service_manager_hears_of_proxies_that_end_and_are_replaced(
    start: Start, manager: Manager, tmp_path: Path
) -> None:
    monitor = start(manager=Notify(f"{tmp_path}/notify"))
    assert manager.hear()[0] == "READY=1"
    monitor.ask("die")
    assert manager.hear() == ["STATUS=0 of 1 proxies serve"]
    assert manager.hear() == ["STATUS=1 of 1 proxies serve"]


def test_signs_of_life_come_in_time_while_all_proxies_serve_and_not_before_that(
    start: Start, manager: Manager, tmp_path: Path
) -> None:
    start("localname = hangs", manager=Notify(f"{tmp_path}/notify", 0.01))
    assert manager.hears_nothing_for(0.3)


def test_signs_of_life_go_on_through_a_reload_and_end_with_the_stop(
    start: Start, manager: Manager, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(monitors, "STOP_SECONDS", 1.0)
    begin = time.monotonic()  # before the first: we may be late to hear them
    monitor = start("localname = stays", manager=Notify(f"{tmp_path}/notify", 0.05))
    assert manager.hear()[0] == "READY=1"
    assert [manager.hear() for _ in range(5)] == [["WATCHDOG=1"]] * 5
    assert time.monotonic() - begin >= 4 * 0.05
    monitor.reload("localname = hangs")
    manager.hear_until("STATUS=reads its configuration")
    assert manager.hear() == ["WATCHDOG=1"]
    os.kill(monitor.pid, signal.SIGTERM)
    assert all(message == ["WATCHDOG=1"] for message in manager.hear_until("STOPPING=1")[:-1])
    assert manager.hears_nothing_for(0.3)
    assert monitor.status() == 0


def test_no_sign_of_life_is_given_while_a_proxy_is_missing(
    start: Start, manager: Manager, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(monitors, "FIRST_PAUSE", 0.5)
    monitor = start("workers = 2", manager=Notify(f"{tmp_path}/notify", 0.02))
    manager.hear_until("WATCHDOG=1")
    monitor.ask("die")
    manager.hear_until("STATUS=1 of 2 proxies serve")
    assert manager.hear() == ["STATUS=2 of 2 proxies serve"]
    assert manager.hear() == ["WATCHDOG=1"]
