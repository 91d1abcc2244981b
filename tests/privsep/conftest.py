"""Real processes, for the tests of what a process may still do and of what it answers."""

import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from privsep.running import LOGIN_SECONDS, QUICK, RunningAgent, StartAgent
from servers.processes import wait_until

from sendooway.log import Log, open_log
from sendooway.privsep import agent, channel, snapshot
from sendooway.privsep.agent import Pace
from sendooway.privsep.client import Agent
from sendooway.privsep.visit import Visit
from sendooway.unix import process


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
