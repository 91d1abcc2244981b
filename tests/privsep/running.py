"""What the tests of processes hold in their hands."""

import os
import pwd
import signal
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from servers.processes import PATIENCE, wait_until

from sendooway.config import Listen
from sendooway.options import Options
from sendooway.privsep.agent import Pace
from sendooway.privsep.channel import Channel
from sendooway.privsep.client import Agent
from sendooway.privsep.monitor import Monitor, RunProxy, StartError
from sendooway.privsep.notify import Notify

# Nothing that a test would have to wait for.
QUICK = Pace(delay=0.0, jitter=0.0)

LOGIN_SECONDS = 120.0

ME = pwd.getpwuid(os.getuid()).pw_name


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


class RunningMonitor:
    """A monitor in a process of its own, which listens on a UNIX socket in `folder`, or on one that it `inherited`.

    Its proxies do what `run_proxy` says; they answer each connection's one word.
    """

    def __init__(
        self,
        folder: Path,
        configuration: str,
        run_proxy: RunProxy,
        inherited: Sequence[tuple[socket.socket, Listen]] = (),
        manager: Notify | None = None,
    ) -> None:
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
                status = Monitor(options, run_proxy, inherited, manager or Notify(), QUICK).run()
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
        self._configuration.write_text(f"{backend}\nworkers = 1\nlisten = unix:{self.path}\n{configuration}\n")

    def reload(self, configuration: str) -> None:
        self.configure(configuration)
        os.kill(self.pid, signal.SIGHUP)

    def ask(self, word: str, path: str = "") -> str:
        """What a proxy answers, empty if it ends instead."""
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(PATIENCE)
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

    def agents(self) -> list[int]:
        """In the order in which they were started, which that of their numbers is not always."""
        proxy = int(self.ask("pid"))
        return [pid for pid in self.children() if pid != proxy]

    def children(self) -> list[int]:
        """All its processes, dead ones too until it has heard of their end."""
        return [int(pid) for pid in Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()]

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
