"""Many clients at the same time, and what they take of the server's time."""

import contextlib
import smtplib
import ssl
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from bench.load import SENDER, Message, Server, expect, session, settled_cpu_seconds, submit
from bench.smarthost import Smarthost

_BEGINNERS = 16  # log in at a time
_PATIENCE = 300.0  # seconds, until all clients are where they wait for each other


@dataclass(frozen=True)
class Crowd:
    """So many clients of one server, where one session after the other is of the next user of `logins`."""

    clients: int
    logins: Sequence[Server]
    smarthost: Smarthost
    tls: ssl.SSLContext
    sender: str = SENDER

    def seconds_of_a_session(self, message: Message, times: int) -> float:
        """CPU time of a session with one mail, if so many times all clients begin, send, and only then say QUIT."""
        together, entrance = threading.Barrier(self.clients, timeout=_PATIENCE), threading.Semaphore(_BEGINNERS)

        def client(number: int) -> None:
            for turn in range(number, self.clients * times, self.clients):
                with self._begun(turn, message, entrance):
                    together.wait()

        before = self._cpu_seconds()
        with self._running(client, together):
            pass
        return (self._cpu_seconds() - before) / self.clients / times

    def seconds_of_a_mail(self, message: Message, times: int, at_once: int) -> float:
        """CPU time of a further mail. All clients have sent one before, and now each sends so many more, `at_once` of
        them at the same time, while the others are idle."""
        together, entrance = threading.Barrier(self.clients + 1, timeout=_PATIENCE), threading.Semaphore(_BEGINNERS)
        first, turns = Message(0), threading.Semaphore(at_once)

        def client(number: int) -> None:
            with self._begun(number, first, entrance) as smtp:
                together.wait()  # for all to be there
                together.wait()  # for the clock to be read
                for _ in range(times):
                    with turns:
                        self._submit(smtp, message)
                together.wait()
                together.wait()

        with self._running(client, together):
            together.wait()
            before = self._cpu_seconds()
            together.wait()
            together.wait()
            after = self._cpu_seconds()
            together.wait()
        return (after - before) / self.clients / times

    @contextlib.contextmanager
    def _begun(self, turn: int, message: Message, entrance: threading.Semaphore) -> Iterator[smtplib.SMTP]:
        """A session that has sent one mail. Who opens the door to all at once measures how they fight for it."""
        server = self.logins[turn % len(self.logins)]
        with contextlib.ExitStack() as stack:
            with entrance:
                smtp = stack.enter_context(session(server, self.tls))
                self._submit(smtp, message)
            yield smtp

    def _submit(self, smtp: smtplib.SMTP, message: Message) -> None:
        submit(smtp, message, self.sender)
        expect(self.smarthost, message, 1)

    @contextlib.contextmanager
    def _running(self, client: Callable[[int], None], together: threading.Barrier) -> Iterator[None]:
        """A thread for each client. Raises what one of them has raised, rather than what came of that."""

        def run(number: int) -> None:
            try:
                client(number)
            except BaseException:
                together.abort()
                raise

        with ThreadPoolExecutor(self.clients) as threads:
            running = [threads.submit(run, number) for number in range(self.clients)]
            try:
                yield
            except BaseException:
                together.abort()
                raise
            finally:
                errors = [error for one in running if (error := one.exception())]
                errors.sort(key=lambda error: isinstance(error, threading.BrokenBarrierError))
                if errors:
                    raise errors[0]

    def _cpu_seconds(self) -> float:
        pid = self.logins[0].pid
        assert pid is not None
        return settled_cpu_seconds(pid)
