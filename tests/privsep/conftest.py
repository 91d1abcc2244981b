"""Real processes, for the tests of what a process may still do and of what it answers."""

import json
import os
import signal
import traceback
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from privsep.running import LOGIN_SECONDS, QUICK, InChild, RunningAgent, StartAgent
from servers.processes import wait_until

from sendooway.log import Log, open_log
from sendooway.privsep import agent, channel, process, snapshot
from sendooway.privsep.agent import Pace
from sendooway.privsep.client import Agent
from sendooway.privsep.visit import Visit


@pytest.fixture
def in_child() -> InChild:
    """Run a function in a forked process; its result, which JSON can carry, comes back."""

    def run(act: Callable[[], Any]) -> Any:
        reading, writing = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                answer = {"result": act()}
            except BaseException:
                answer = {"error": traceback.format_exc()}
            os.write(writing, json.dumps(answer).encode())
            os._exit(0)
        os.close(writing)
        with open(reading, "rb") as file:
            octets = file.read()
        os.waitpid(pid, 0)
        assert octets, "the child has ended without an answer"
        answer = json.loads(octets)
        assert "error" not in answer, answer["error"]
        return answer["result"]

    return run


@pytest.fixture
def log_file(tmp_path: Path) -> Path:
    return tmp_path / "log"


@pytest.fixture
def log(log_file: Path) -> Iterator[Log]:
    log = open_log(str(log_file))
    yield log
    log.close()


@pytest.fixture
def start_agent(tmp_path: Path, log: Log) -> Iterator[StartAgent]:
    """Fork an agent for a configuration, by default one for which `none` checks the login."""
    running = []

    def start(
        configuration: str = "authBackend = none\n", pace: Pace = QUICK, *, monitored: bool = False
    ) -> RunningAgent:
        path = tmp_path / "sendooway.conf"
        path.touch(0o600)
        path.write_text(configuration)
        taken = snapshot.take(str(path), log)
        ours, theirs = channel.pair()
        monitor, gate = channel.pair() if monitored else (None, None)
        pid = process.start(
            "sendooway [agent]",
            lambda: agent.run(theirs, taken, Visit("s1", "192.0.2.7"), log, pace, gate),
            (theirs.fileno(), taken.memory, *([gate.fileno()] if gate else [])),
            log,
        )
        theirs.close()
        taken.close()
        if gate:
            gate.close()
        running.append(RunningAgent(pid, ours, Agent(ours, LOGIN_SECONDS, LOGIN_SECONDS), monitor))
        return running[-1]

    yield start
    for started in running:
        started.channel.close()
        if started.monitor:
            started.monitor.close()
        with suppress(ChildProcessError):
            _bury(started.pid)


def _bury(pid: int) -> None:
    """Wait until a process has ended; one that does not end is killed, and the test fails."""
    try:
        wait_until(lambda: os.waitpid(pid, os.WNOHANG) != (0, 0), f"the end of agent {pid}")
    except AssertionError:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        raise
