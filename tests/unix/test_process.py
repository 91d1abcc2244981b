import os
import select
from collections.abc import Callable

import pytest
from servers.processes import PATIENCE, is_running

from sendooway.unix.process import last_words


def child(says: Callable[[int], object]) -> tuple[int, int]:
    """A process that does `says` with its end of a pipe, and then ends; its number, and our end."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            says(writing)
        finally:
            os._exit(0)
    os.close(writing)
    return pid, reading


def assert_over(pid: int, pipe: int) -> None:
    assert not is_running(pid)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(pipe)


@pytest.mark.parametrize(
    ("says", "heard"),
    [
        (lambda pipe: None, b""),
        (lambda pipe: [os.write(pipe, octet) for octet in (b"a", b"b", b"c", b"d")], b"abcd"),
        (lambda pipe: os.write(pipe, b"abcde"), None),
    ],
    ids=["nothing", "as much as it may", "too much"],
)
def test_the_last_words_of_a_child_are_heard_up_to_a_limit(says: Callable[[int], object], heard: bytes | None) -> None:
    pid, pipe = child(says)
    assert last_words(pid, pipe, PATIENCE, 4) == heard
    assert_over(pid, pipe)


def test_a_child_that_does_not_come_to_an_end_is_ended() -> None:
    pid, pipe = child(lambda pipe: [os.write(pipe, b"a"), select.select([], [], [])])
    assert last_words(pid, pipe, 0.1, 4) is None
    assert_over(pid, pipe)
