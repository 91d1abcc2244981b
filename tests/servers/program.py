"""Sendooway itself, as its users start it: with a configuration file, options and a log file."""

import contextlib
import os
import signal
import smtplib
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType

from servers import processes
from servers.processes import PATIENCE, Status, accepts, descendants, free_port, read_status, title, wait_until

ROOT = Path(__file__).resolve().parents[2]


# In which sessions that are open may end by themselves.
STOP_SECONDS = 35.0

# What `make dist` makes.
ONE_FILE = ROOT / "dist/sendooway"


def command(*arguments: str | Path) -> list[str]:
    """The program that is tested.

    It is the file that SENDOOWAY_PROGRAM names, as `make test` does; else the one in the source tree, run by the Python
    that runs the tests.
    """
    program = os.environ.get("SENDOOWAY_PROGRAM")
    return [*([program] if program else [sys.executable, "-m", "sendooway"]), *map(str, arguments)]


class Sendooway:
    """Runs inside a `with`; at its end every process must end by SIGTERM, and the log must show no crash.

    Standalone (`stdin` None) it listens on 127.0.0.1:`port`. With `stdin` and `stdout` (descriptors) it serves one
    connection. `log` is the log file's text so far.
    """

    def __init__(
        self,
        folder: Path,
        configuration: str,
        *options: str,
        stdin: int | None = None,
        stdout: int | None = None,
        port: int = 0,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.folder = folder
        self.port = port or free_port()
        self._configuration = folder / "sendooway.conf"
        self._log = folder / "sendooway.log"
        self._stderr = folder / "sendooway.stderr"
        self._standalone = stdin is None
        self.configure(configuration)
        self._streams = (stdin, stdout)
        self._options = options
        self._environment = {**os.environ, **(environment or {})}
        self.expected_status = 0

    def configure(self, configuration: str) -> None:
        """Write the configuration file; it counts from the next start or SIGHUP."""
        listen = f"listen = 127.0.0.1:{self.port}\n" if self._standalone else ""
        self._configuration.touch(mode=0o600)
        self._configuration.write_text(configuration + listen)

    def __enter__(self) -> "Sendooway":
        stdin, stdout = self._streams
        with self._stderr.open("ab") as stderr:
            self.process = subprocess.Popen(
                command("-c", self._configuration, "-l", self._log, *self._options),
                cwd=ROOT,
                stdin=subprocess.DEVNULL if stdin is None else stdin,
                stdout=subprocess.DEVNULL if stdout is None else stdout,
                stderr=stderr,
                env=self._environment,
            )
        if self._standalone:
            wait_until(self._is_ready, "Sendooway accepts")
        return self

    def _is_ready(self) -> bool:
        assert self.process.poll() is None, f"Sendooway ended at once: {self.log} {self._stderr.read_text()}"
        return accepts(self.port)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        left = self.processes()
        try:
            if self._standalone and self.process.poll() is None:
                self.process.send_signal(signal.SIGTERM)
            status = self.process.wait(STOP_SECONDS + PATIENCE)
            processes.wait_until_gone(left)
        finally:
            for pid in filter(processes.is_running, [self.process.pid, *left]):
                os.kill(pid, signal.SIGKILL)
            self.process.wait()
        if error is None:
            assert status == self.expected_status, f"exit status {status}: {self.log}"
            self.assert_no_crash()

    def assert_no_crash(self) -> None:
        for word in ("Traceback", "process-failed"):
            assert word not in self.log, self.log
        assert not self._stderr.read_text()

    @property
    def log(self) -> str:
        return self._log.read_text(errors="surrogateescape") if self._log.exists() else ""

    def wait_for_log(self, *texts: str) -> str:
        """The first line of the log that holds all of the texts; waited for."""

        def found() -> list[str]:
            return [line for line in self.log.splitlines() if all(text in line for text in texts)]

        try:
            wait_until(found, f"a log line with {texts}")
        except AssertionError as error:
            raise AssertionError(f"{error}; the log:\n{self.log}") from None
        return found()[0]

    def processes(self) -> list[int]:
        """The monitor (or, where it serves one connection, the first process) and all that it began."""
        return [self.process.pid, *descendants(self.process.pid)]

    def only(self, role: str) -> int:
        """The process of a role that there is once."""
        found = self.role(role)
        assert len(found) == 1, (found, self.log)
        return found[0].pid

    def role(self, name: str) -> list[Status]:
        """The running processes whose title says `[NAME`: monitor, proxy, agent."""
        found = []
        for pid in self.processes():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it ends while we look
                if f"[{name}" in title(pid):
                    found.append(read_status(pid))
        return found


# The fixtures `start` and `connect` of the end-to-end tests.
Start = Callable[..., Sendooway]
Connect = Callable[..., smtplib.SMTP]
