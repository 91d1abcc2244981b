"""The monitor: keeps the listening sockets, forks proxies and agents, replaces and reloads them.

It has root's rights and so reads no octet of the network: only messages of its proxies, which it does not trust, and
signals. It is one thread and waits in one place, the selector of `Monitor.run`.
"""

import gc
import os
import signal
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from selectors import EVENT_READ, EpollSelector

from sendooway.auth import login
from sendooway.auth.identity import AuthenticatorError
from sendooway.config import Configuration, Listen
from sendooway.log import Log, open_log, was_rotated
from sendooway.net.listener import ListenError
from sendooway.options import Options, UsageError, endpoints
from sendooway.privsep import channel, snapshot, sockets
from sendooway.privsep.agent import Pace
from sendooway.privsep.agents import Agents
from sendooway.privsep.channel import Channel, ChannelClosed
from sendooway.privsep.messages import AgentWanted, Message, ProtocolError, ProxyReady
from sendooway.privsep.notify import Notify
from sendooway.privsep.request import open_request
from sendooway.privsep.snapshot import Snapshot, SnapshotError
from sendooway.privsep.sockets import Listener
from sendooway.unix import kernel, process

# Proxies wait 30 seconds for their sessions when they get SIGTERM, and some more until these have said 421.
STOP_SECONDS = 35.0

# To load the key and drop privileges takes milliseconds; name services that hang take longer.
READY_SECONDS = 30.0

# A proxy that dies at once would die again: the pause doubles from a quarter of a second to half a minute.
FIRST_PAUSE = 0.25
LONGEST_PAUSE = 30.0
STEADY_SECONDS = 10.0

_TO_MONITOR: frozenset[type[Message]] = frozenset({ProxyReady, AgentWanted})

RunProxy = Callable[[Configuration, Sequence[tuple[socket.socket, Listen]], Channel, Log], int]


class StartError(Exception):
    """The configuration of this moment cannot be put to work. `status` is the exit status that says so."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


@dataclass(eq=False)
class _Generation:
    """What was made of one reading of the configuration, and the proxies that work with it."""

    snapshot: Snapshot
    log: Log
    listeners: list[Listener]
    proxies: "dict[int, _Proxy]" = field(default_factory=dict)
    deadline: float = 0.0

    @property
    def ready(self) -> bool:
        return self._serving() == self.snapshot.configuration.workers

    def _serving(self) -> int:
        return sum(proxy.ready for proxy in self.proxies.values())

    def describe(self) -> str:
        """The status for people who look at the service manager."""
        return f"{self._serving()} of {self.snapshot.configuration.workers} proxies serve"

    def leave(self, keep: sockets.ByPlace) -> None:
        """Listen no more, but for the sockets to keep, which others have, too."""
        listeners, self.listeners = self.listeners, []
        sockets.close(listeners, keep)

    def close(self) -> None:
        self.snapshot.close()
        self.log.close()


@dataclass(eq=False)
class _Proxy:
    """One proxy. `ready`: it has given up its rights and serves. `born` is of the monotonic clock."""

    pid: int
    channel: Channel
    generation: _Generation
    born: float
    ready: bool = False


class Monitor:
    """Everything that runs.

    `run_proxy` is what a proxy does: it gets the redacted configuration, the listening sockets, its end of the channel
    to here, and the log; it sends ProxyReady when nothing can go wrong any more, and returns its exit status.
    `inherited` are sockets to listen on instead of what the configuration says, as long as we run. `manager` is told
    how it goes.
    """

    def __init__(
        self,
        options: Options,
        run_proxy: RunProxy,
        inherited: Sequence[tuple[socket.socket, Listen]],
        manager: Notify,
        pace: Pace | None = None,
    ) -> None:
        self._options = options
        self._run_proxy = run_proxy
        self._inherited = inherited
        self._manager = manager
        self._next_sign = time.monotonic()  # of life, for the manager's watchdog
        self._current: _Generation | None = None
        self._candidate: _Generation | None = None
        self._draining: list[_Generation] = []
        # All that is waited for, with what to call, with the log, when it is readable.
        self._selector = EpollSelector()
        self._agents = Agents(pace or Pace(), self._selector)
        self._children = kernel.Children()
        self._reload = False
        self._stop_at: float | None = None
        self._pause = 0.0  # before the next start of a proxy
        self._next_start = 0.0
        self._status = 0

    def run(self) -> int:
        """Serve until SIGTERM or SIGINT. Returns the exit status: 0, or that of a proxy that could not begin.

        Raises StartError where nothing has begun.
        """
        kernel.set_title("sendooway [monitor]")
        kernel.adopt_orphans(True)
        signals = _receive_signals()
        self._selector.register(signals, EVENT_READ, lambda _: self._take_signals(os.read(signals, 4096)))
        # Pages with objects that are never collected stay shared with all children.
        gc.collect()
        gc.freeze()
        self._begin()
        while self._living():
            for key, _ in self._selector.select(self._patience()):
                # What came before may have ended it, or begun another one in its place.
                if self._selector.get_map().get(key.fd) is key:
                    key.data(self._log)
            self._keep_time()
        self._agents.end()
        return self._status

    # Generations

    def _begin(self) -> None:
        """Read the configuration and start its proxies, beside those that there are. Raises StartError."""
        log = _open(self._options.log)
        try:
            taken = snapshot.take(self._options.config, log)
        except (SnapshotError, OSError) as error:
            log.close()
            status = os.EX_CONFIG if isinstance(error, SnapshotError) else os.EX_OSERR
            raise StartError(status, str(error)) from error
        generation = _Generation(taken, log, [])
        try:
            login.check(taken.configuration)
            login.load(taken.configuration)
            wanted = endpoints(self._options, taken.configuration, [listen for _, listen in self._inherited])
            generation.listeners = self._open(wanted, generation)
        except (AuthenticatorError, UsageError) as error:
            generation.close()
            raise StartError(os.EX_CONFIG, str(error)) from error
        except ListenError as error:
            generation.close()
            forbidden = isinstance(error.__cause__, PermissionError)
            raise StartError(os.EX_NOPERM if forbidden else os.EX_OSERR, str(error)) from error
        self._start(generation)

    def _start(self, generation: _Generation) -> None:
        """Begin with its proxies: it is the candidate until they are ready.

        The first begins alone: what it cannot do none of them can, and it is said once.
        """
        generation.deadline = time.monotonic() + READY_SECONDS
        self._candidate = generation
        self._start_proxies(generation, 1)

    def _start_proxies(self, candidate: _Generation, number: int) -> None:
        try:
            for _ in range(number):
                self._start_proxy(candidate)
        except OSError as error:
            self._abandon(f"cannot start a proxy: {error.strerror}", os.EX_OSERR)

    def _open(self, wanted: Sequence[Listen], generation: _Generation) -> list[Listener]:
        """Sockets for all of these. Raises ListenError."""
        if not self._inherited:
            return sockets.open_all(wanted, self._current_sockets())
        if generation.snapshot.configuration.listen:
            generation.log.warning("listen", reason="the sockets in LISTEN_FDS replace the `listen` lines")
        return [(listen, [sock]) for listen, (sock, _) in zip(wanted, self._inherited, strict=True)]

    def _current_sockets(self) -> sockets.ByPlace:
        return sockets.by_place(self._current.listeners if self._current else ())

    def _go_on(self, candidate: _Generation) -> None:
        """One of its proxies is ready."""
        workers = candidate.snapshot.configuration.workers
        if candidate.ready:
            self._promote()
        elif len(candidate.proxies) < workers and self._stop_at is None:
            self._start_proxies(candidate, workers - len(candidate.proxies))

    def _promote(self) -> None:
        """The candidate's proxies are all ready: now the old ones need not accept connections any more."""
        old, self._current, self._candidate = self._current, self._candidate, None
        assert self._current is not None
        self._pause = 0.0
        self._manager.ready(self._current.describe())
        if old is None:
            self._current.log.event("ready", proxies=len(self._current.proxies))
            return
        self._current.log.event("reloaded", proxies=len(self._current.proxies))
        old.leave(self._current_sockets())
        for pid in old.proxies:
            os.kill(pid, signal.SIGUSR1)
        self._draining.append(old)

    def _abandon(self, reason: str, status: int) -> None:
        """The candidate does not work: back to what there was, or to the end."""
        failed, self._candidate = self._candidate, None
        assert failed is not None
        for pid in failed.proxies:
            os.kill(pid, signal.SIGKILL)
        failed.leave(self._current_sockets())
        if self._current is None:
            failed.log.error("start-failed", reason=reason)
            self._manager.status(reason)
            self._status = status
        else:
            self._refuse_reload(self._current, reason)
        self._draining.append(failed)

    def _try_reload(self) -> None:
        self._reload = False
        assert self._current is not None
        self._manager.reloading()
        try:
            self._begin()
        except StartError as error:
            self._refuse_reload(self._current, str(error))
            if was_rotated(self._current.log, self._options.log):
                self._renew_log(self._current, str(error))

    def _renew_log(self, current: _Generation, reason: str) -> None:
        """The same configuration, and new proxies that write to the new file: the old one will be removed some day."""
        try:
            log = _open(self._options.log)
            try:
                same = replace(current.snapshot, memory=os.dup(current.snapshot.memory))
            except OSError:
                log.close()
                raise
        except (StartError, OSError) as error:
            current.log.error("log-not-renewed", reason=str(error))
            return
        log.error("reload-refused", reason=reason)
        self._start(_Generation(same, log, current.listeners))

    def _refuse_reload(self, current: _Generation, reason: str) -> None:
        current.log.error("reload-refused", reason=reason)
        self._manager.ready(f"{current.describe()}; refused the new configuration: {reason}")

    # Proxies

    def _start_proxy(self, generation: _Generation) -> None:
        ours, theirs = channel.pair()
        listeners = [(sock, listen) for listen, opened in generation.listeners for sock in opened]
        keep = [theirs.fileno(), *(sock.fileno() for sock, _ in listeners)]
        configuration, log = generation.snapshot.configuration, generation.log
        try:
            pid = process.start(
                "sendooway [proxy]", lambda: self._run_proxy(configuration, listeners, theirs, log), keep, log
            )
            proxy = _Proxy(pid, ours, generation, time.monotonic())
            self._selector.register(ours, EVENT_READ, partial(self._hear, proxy))
        except OSError:
            ours.close()
            raise
        finally:
            theirs.close()
        generation.proxies[pid] = proxy

    def _hear(self, proxy: _Proxy, log: Log) -> None:
        """One message of a proxy. One that does not keep to the protocol has been taken over, and ends here."""
        try:
            message, descriptors = proxy.channel.receive_descriptors(_TO_MONITOR, 1.0)
            match message:
                case ProxyReady() if not descriptors:
                    proxy.ready = True
                    if proxy.generation is self._candidate:
                        self._go_on(self._candidate)
                    elif proxy.generation is self._current:
                        self._manager.status(self._current.describe())
                case _:
                    taken = proxy.generation.snapshot
                    request = open_request(message, descriptors, taken.configuration.proxy_trust)
                    self._agents.start(request, taken, log, proxy.pid)
        except ProtocolError as error:
            proxy.generation.log.error("proxy-misbehaves", process=proxy.pid, reason=str(error))
            self._kill(proxy)
        except (ChannelClosed, TimeoutError):
            self._kill(proxy)
        except OSError as error:
            # No room here for the descriptors: the session notices that its agent's end is closed.
            log.error("no-agent", process=proxy.pid, reason=error.strerror)

    def _kill(self, proxy: _Proxy) -> None:
        self._close(proxy)
        os.kill(proxy.pid, signal.SIGKILL)

    def _close(self, proxy: _Proxy) -> None:
        if proxy.channel.fileno() >= 0:
            self._selector.unregister(proxy.channel)
            proxy.channel.close()

    def _buried(self, proxy: _Proxy, status: int) -> None:
        """A proxy has ended."""
        generation = proxy.generation
        del generation.proxies[proxy.pid]
        self._close(proxy)
        self._agents.proxy_buried(proxy.pid)
        if generation in self._draining or self._stop_at is not None:
            if status != 0:
                generation.log.error("proxy-ended", process=proxy.pid, status=status)
        elif generation is self._candidate:
            status = status if status > 0 else os.EX_SOFTWARE
            self._abandon(f"a proxy ended with status {status} before all were ready", status)
        else:
            generation.log.error("proxy-ended", process=proxy.pid, status=status)
            self._manager.status(generation.describe())
            now = time.monotonic()
            self._pause = 0.0 if now - proxy.born > STEADY_SECONDS else longer(self._pause)
            self._next_start = now + self._pause

    # What happens

    @property
    def _log(self) -> Log:
        """The newest, also for what concerns the sessions of an old proxy: its own may have been rotated away."""
        return (self._current or self._generations()[0]).log

    def _living(self) -> bool:
        return any(generation.proxies for generation in self._generations()) or (
            self._stop_at is None and self._current is not None
        )

    def _generations(self) -> list[_Generation]:
        return [generation for generation in (self._current, self._candidate, *self._draining) if generation]

    def _take_signals(self, numbers: bytes) -> None:
        if signal.SIGCHLD in numbers:
            self._reap()
        if signal.SIGHUP in numbers:
            self._reload = True
        if (signal.SIGTERM in numbers or signal.SIGINT in numbers) and self._stop_at is None:
            self._stop()

    def _reap(self) -> None:
        while True:
            try:
                pid, ended = os.waitpid(-1, os.WNOHANG | os.WUNTRACED)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if os.WIFSTOPPED(ended):
                # A user may stop the own agent, which would then outlive its session and keep its place for ever.
                self._log.error("process-stopped", process=pid)
                os.kill(pid, signal.SIGKILL)
                continue
            status = os.waitstatus_to_exitcode(ended)
            for generation in self._generations():
                if pid in generation.proxies:
                    self._buried(generation.proxies[pid], status)
            # An agent that was alive to say why it ends has done so. A signal leaves it no time.
            for visit in self._agents.buried(pid, self._log):
                if status < 0 and self._stop_at is None:
                    self._log.error("agent-killed", process=pid, session=visit.session, signal=-status)
            self._end_orphans()

    def _end_orphans(self) -> None:
        """What an agent's user has started must not outlive it: it would take what the service may have for itself."""
        if os.getpid() == 1:
            return  # of a container: orphans of others come to us, too
        ours = {pid for generation in self._generations() for pid in generation.proxies}
        for pid in self._children.numbers() - ours - self._agents.processes():
            os.kill(pid, signal.SIGKILL)

    def _stop(self) -> None:
        self._stop_at = time.monotonic() + STOP_SECONDS
        self._manager.stopping("waits for its sessions to end")
        for generation in self._generations():
            generation.log.event("stopping")
            generation.leave({})
            for pid in generation.proxies:
                os.kill(pid, signal.SIGTERM)

    def _keep_time(self) -> None:
        """What is due now."""
        self._agents.keep_time()
        now = time.monotonic()
        for generation in [old for old in self._draining if not old.proxies]:
            self._draining.remove(generation)
            generation.close()
        if self._stop_at is not None:
            if now >= self._stop_at:
                for generation in self._generations():
                    for pid in generation.proxies:
                        os.kill(pid, signal.SIGKILL)
            return
        if self._candidate is not None:
            if now >= self._candidate.deadline:
                self._abandon(f"the proxies were not ready within {READY_SECONDS:g} seconds", os.EX_SOFTWARE)
        elif self._reload and self._current is not None:
            self._try_reload()
        if self._current is not None and now >= self._next_start:
            for _ in range(self._current.snapshot.configuration.workers - len(self._current.proxies)):
                self._replace_proxy(self._current)
        if self._shows_life() and now >= self._next_sign:
            self._manager.alive()
            self._next_sign = now + (self._manager.watchdog or 0.0)

    def _shows_life(self) -> bool:
        """Only while everything serves: who restarts us if we cannot keep proxies alive does the right thing."""
        return self._manager.watchdog is not None and self._current is not None and self._current.ready

    def _replace_proxy(self, generation: _Generation) -> None:
        try:
            self._start_proxy(generation)
        except OSError as error:
            generation.log.error("no-proxy", reason=error.strerror)
            self._next_start = time.monotonic() + 1.0

    def _patience(self) -> float | None:
        """Seconds until something is due; None: only what happens will be."""
        due = []
        agents = self._agents.patience()
        if agents is not None:
            due.append(time.monotonic() + agents)
        if self._stop_at is not None:
            due.append(self._stop_at)
        elif self._candidate is not None:
            due.append(self._candidate.deadline)
        if self._stop_at is None and self._current is not None:
            if len(self._current.proxies) < self._current.snapshot.configuration.workers:
                due.append(self._next_start)
            if self._shows_life():
                due.append(self._next_sign)
        return max(0.0, min(due) - time.monotonic()) if due else None


def longer(pause: float) -> float:
    """Seconds to wait before another start, after a `pause` that has not helped."""
    return min(max(FIRST_PAUSE, 2 * pause), LONGEST_PAUSE)


def _open(destination: str | None) -> Log:
    try:
        return open_log(destination)
    except OSError as error:
        raise StartError(os.EX_CANTCREAT, f"cannot open the log {destination}: {error.strerror}") from error


def _receive_signals() -> int:
    """A descriptor from which the numbers of signals can be read, an octet each."""
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    os.set_blocking(writing, False)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD):
        signal.signal(number, lambda *_: None)
    signal.set_wakeup_fd(writing)
    return reading
