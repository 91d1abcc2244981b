import os
from collections.abc import Iterator

import pytest

from sendooway.net.deadline import Deadline
from sendooway.net.pause import Pause


@pytest.fixture
def ends() -> Iterator[tuple[int, int]]:
    reading, writing = os.pipe()
    yield reading, writing
    os.close(reading)
    os.close(writing)


def test_it_ends_when_there_is_something_to_read(ends: tuple[int, int]) -> None:
    reading, writing = ends
    os.write(writing, b"x")
    assert Pause(reading, Deadline(60)).wait()


def test_it_ends_at_the_deadline_with_nothing(ends: tuple[int, int]) -> None:
    pause = Pause(ends[0], Deadline(0.05))
    assert 0 < pause.seconds() <= 0.05
    assert not pause.wait()
    assert pause.seconds() == 0
    assert not pause.wait()
