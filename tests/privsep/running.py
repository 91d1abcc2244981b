"""What the tests of processes hold in their hands."""

import os
import pwd
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sendooway.privsep.agent import Pace
from sendooway.privsep.channel import Channel
from sendooway.privsep.client import Agent

# Nothing that a test would have to wait for.
QUICK = Pace(delay=0.0, jitter=0.0)

LOGIN_SECONDS = 120.0

ME = pwd.getpwuid(os.getuid()).pw_name

InChild = Callable[[Callable[[], Any]], Any]


@dataclass
class RunningAgent:
    """An agent process. `stub` asks it as a session does, `channel` is below that, `monitor` the parent's channel."""

    pid: int
    channel: Channel
    stub: Agent
    monitor: Channel | None

    def end(self) -> int:
        """The exit status of the process, waited for; negative: the signal that ended it."""
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


StartAgent = Callable[..., RunningAgent]
