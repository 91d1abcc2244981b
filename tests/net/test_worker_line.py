import contextlib
import os
import signal
import socket
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from servers.processes import wait_until

from sendooway.net.worker_line import MUCH, WorkerLine


@pytest.fixture
def door() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as door:
        door.setblocking(False)
        yield door


def knock(door: socket.socket) -> socket.socket:
    return socket.create_connection(door.getsockname(), 60)


def test_it_tells_who_knocks_and_what_is_its_own(door: socket.socket) -> None:
    reading, writing = os.pipe()
    with WorkerLine([door.fileno()], [reading]) as line:
        assert line.wait(0) == set()
        with knock(door):
            assert line.wait(60) == {door.fileno()}
            os.write(writing, b"!")
            assert line.wait(60) == {door.fileno(), reading}
            door.accept()[0].close()
            assert line.wait(60) == {reading}
    os.close(reading)
    os.close(writing)


def test_who_comes_while_nobody_waits_is_told_to_the_next_one_who_does(door: socket.socket) -> None:
    with WorkerLine([door.fileno()], ()) as first, WorkerLine([door.fileno()], ()) as second, knock(door):
        assert second.wait(60) == {door.fileno()}
        # Who has been told and takes nobody leaves it to the others.
        assert first.wait(60) == {door.fileno()}
        door.accept()[0].close()
        assert first.wait(0) == second.wait(0) == set()


@pytest.mark.parametrize("step_back", [False, True])
def test_of_those_who_wait_the_first_in_line_is_woken_and_nobody_else(door: socket.socket, step_back: bool) -> None:
    told, tell = os.pipe()
    with contextlib.ExitStack() as stack:
        waiters = [stack.enter_context(waiting(door, number, tell, step_back)) for number in range(3)]
        woken = b""
        for _ in range(4):
            for waiter in waiters:
                wait_until(partial(sleeps, waiter), "that all wait")
            with knock(door):
                woken += os.read(told, 100)
    assert woken == (b"\0\1\2\0" if step_back else b"\0\0\0\0")
    os.close(told)
    os.close(tell)


@contextlib.contextmanager
def waiting(door: socket.socket, number: int, tell: int, step_back: bool) -> Iterator[int]:
    """A process that waits in line, and for nothing else. It tells its number when it has been woken and has found
    somebody; where it finds nobody, it ends."""
    pid = os.fork()
    if pid == 0:
        try:
            line = WorkerLine([door.fileno()], ())
            while line.wait(None):
                door.accept()[0].close()
                if step_back:
                    line.go_to_the_end()
                os.write(tell, bytes([number]))
        finally:
            os._exit(1)
    wait_until(partial(sleeps, pid), "that it waits")
    yield pid
    os.kill(pid, signal.SIGKILL)
    assert os.WIFSIGNALED(os.waitpid(pid, 0)[1])


def sleeps(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "S"


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize(("share", "busy"), [(0.0, False), (MUCH - 0.01, False), (MUCH + 0.01, True), (1.9, True)])
def test_who_takes_a_good_part_of_a_core_is_busy(share: float, busy: bool) -> None:
    clock, work = Clock(), Clock()
    line = WorkerLine((), (), clock, work)
    for _ in range(3):
        clock.now += 1
        work.now += share
        assert line.is_busy() is busy


def test_a_moment_says_nothing(door: socket.socket) -> None:
    clock, work = Clock(), Clock()
    line = WorkerLine((), (), clock, work)
    clock.now, work.now = 0.001, 0.001
    assert not line.is_busy()
    clock.now, work.now = 1, 0.9
    assert line.is_busy()
    clock.now = 1.001
    assert line.is_busy()
    clock.now = 2
    assert not line.is_busy()
