import signal
from contextlib import suppress

import pytest

from sendooway.privsep import time_limit
from sendooway.privsep.time_limit import TooLate, within


def test_a_block_that_takes_longer_is_interrupted() -> None:
    with pytest.raises(TooLate, match=r"^reading the files took longer than 0\.01 seconds$"), within(0.01):
        signal.pause()


def test_an_interrupt_that_goes_to_nobody_is_followed_by_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time_limit, "_AGAIN_SECONDS", 0.01)
    with pytest.raises(TooLate), within(0.01):
        _pause_twice()


def _pause_twice() -> None:
    with suppress(TooLate):
        signal.pause()
    signal.pause()


def test_at_whatever_moment_the_time_is_over_nothing_is_left_of_the_limit() -> None:
    before = signal.getsignal(signal.SIGALRM)
    interrupted = 0
    for microseconds in range(1, 200):
        interrupted += _is_interrupted(microseconds / 1_000_000)
        assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)
        assert signal.getsignal(signal.SIGALRM) is before
    assert interrupted


def _is_interrupted(seconds: float) -> bool:
    try:
        with within(seconds):
            return False
    except TooLate:
        return True
