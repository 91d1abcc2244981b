import pytest

from sendooway.net.deadline import Deadline


def test_a_deadline_tells_how_many_seconds_are_left() -> None:
    assert 59 < Deadline(60).left() <= 60


def test_a_deadline_that_is_over_raises_and_names_its_length() -> None:
    with pytest.raises(TimeoutError, match="within 0 seconds"):
        Deadline(0).left()


def test_a_sooner_deadline_does_not_outlast_its_parent() -> None:
    assert Deadline(60).sooner(1000).left() <= 60
    assert Deadline(60).sooner(1).left() <= 1
