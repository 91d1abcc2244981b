"""One connection and one agent: what there is instead of a monitor where standard input is the connection.

The client waits for its greeting while we start, so each of the two processes imports what it needs for itself: the
agent after the fork, and the proxy meanwhile.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass

from sendooway.config import Configuration
from sendooway.log import Log
from sendooway.privsep import channel, snapshot
from sendooway.privsep.channel import Channel, ChannelClosed
from sendooway.privsep.messages import AgentWanted, ProtocolError
from sendooway.privsep.request import open_request
from sendooway.privsep.snapshot import Snapshot
from sendooway.unix import process


@dataclass(frozen=True)
class Begun:
    """The process that reads the configuration now and is the session's agent later.

    `monitor` is the channel for AgentWanted; the process ends when it is closed.
    """

    monitor: Channel
    path: str
    memory: int
    answer: int

    def receive(self) -> Snapshot:
        """The redacted configuration, once; its memory is closed. Raises SnapshotError."""
        try:
            return snapshot.receive(self.path, self.memory, self.answer)
        finally:
            os.close(self.memory)


def begin(path: str, log: Log, serves: Callable[[Configuration], bool]) -> Begun:
    """Fork the process for the configuration file `path`. Raises OSError.

    `serves` says whether there will be a session with that configuration, or else it is the business of a server,
    which reads it again.
    """
    memory = snapshot.allocate()
    reading, writing = os.pipe()
    ours, theirs = channel.pair()
    process.start(
        "sendooway [agent]",
        lambda: _run(path, memory, writing, theirs, log, serves),
        (memory, writing, theirs.fileno()),
        log,
    )
    os.close(writing)
    theirs.close()
    return Begun(ours, path, memory, reading)


def _run(
    path: str, memory: int, answer: int, monitor_end: Channel, log: Log, serves: Callable[[Configuration], bool]
) -> int:
    # Nothing of the client's connection is for this process.
    process.point_at_null(0, 1)
    taken = snapshot.publish(path, memory, answer, log, serves)
    if taken is None:
        return os.EX_CONFIG
    if not serves(taken.configuration):
        return os.EX_OK

    from sendooway.auth import login
    from sendooway.auth.identity import AuthenticatorError
    from sendooway.privsep import agent
    from sendooway.privsep.visit import Visit

    try:
        # Now, while the client reads the greeting.
        login.load(taken.configuration)
    except AuthenticatorError as error:
        # Each login will be told to try later.
        log.error("no-logins", reason=str(error))
    try:
        message, descriptors = monitor_end.receive_descriptors(frozenset({AgentWanted}), None)
        request = open_request(message, descriptors, taken.configuration.proxy_trust)
    except ChannelClosed:
        return 0
    except ProtocolError as error:
        log.error("proxy-misbehaves", reason=str(error))
        return os.EX_SOFTWARE
    # A second agent is not to be had.
    monitor_end.close()
    if request.client is None:
        return 0
    return agent.run(request.end, taken, Visit(request.session, request.client), log, agent.Pace())
