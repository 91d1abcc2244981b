"""Who gets a place: each limit at its edge."""

from dataclasses import replace

import pytest

from sendooway.config import Configuration, UserSettings
from sendooway.net.places import Full, Place, Places

LIMITS = replace(
    Configuration(UserSettings("test")), max_sessions=10, max_sessions_per_client=4, max_unauthenticated=10
)
HOME, STRANGER = "192.0.2.7", "198.51.100.1"
THIS_MACHINE = ""


class Lucky(Places):
    """Nobody is turned away by chance."""

    @staticmethod
    def _draw() -> float:
        return 1.0


class Drawing(Places):
    """What the draw gives is what the test says."""

    drawn = 0.0

    def _draw(self) -> float:  # type: ignore[override]
        return self.drawn


def logged_in(places: Places, source: str, number: int) -> list[Place]:
    taken = []
    for _ in range(number):
        taken.append(places.take(source))
        taken[-1].logged_in()
    return taken


def test_there_are_so_many_places_and_one_that_is_left_can_be_taken_again() -> None:
    places = Lucky(LIMITS)
    first, *_ = [logged_in(places, f"192.0.2.{number}", 1)[0] for number in range(10)]
    with pytest.raises(Full, match=r"maxSessions$"):
        places.take(STRANGER)
    first.leave()
    logged_in(places, STRANGER, 1)
    with pytest.raises(Full, match=r"maxSessions$"):
        places.take(STRANGER)


def test_one_address_gets_only_a_part_of_them() -> None:
    places = Lucky(LIMITS)
    mine = logged_in(places, HOME, 4)
    with pytest.raises(Full, match="maxSessionsPerClient"):
        places.take(HOME)
    logged_in(places, STRANGER, 1)
    mine[0].leave()
    logged_in(places, HOME, 1)


def test_this_machine_may_take_all() -> None:
    places = Lucky(LIMITS)
    logged_in(places, THIS_MACHINE, 10)
    with pytest.raises(Full, match=r"maxSessions$"):
        places.take(HOME)


def test_newcomers_have_places_of_their_own_until_they_log_in() -> None:
    places = Lucky(replace(LIMITS, max_unauthenticated=2))
    first, _ = (places.take(source) for source in (HOME, STRANGER))
    with pytest.raises(Full, match=r"maxUnauthenticated$"):
        places.take(THIS_MACHINE)
    first.logged_in()
    places.take(THIS_MACHINE).leave()
    places.take(THIS_MACHINE)
    first.leave()
    with pytest.raises(Full, match=r"maxUnauthenticated$"):
        places.take(THIS_MACHINE)


def test_newcomers_of_one_address_take_at_most_a_fifth() -> None:
    places = Lucky(LIMITS)
    places.take(HOME)
    places.take(HOME)
    with pytest.raises(Full, match=r"maxUnauthenticated \(a fifth"):
        places.take(HOME)
    places.take(STRANGER)


def test_a_place_counts_where_a_balancer_tells_that_it_is() -> None:
    places = Lucky(LIMITS)
    for _ in range(2):
        places.take(THIS_MACHINE).move(HOME)
    third = places.take(THIS_MACHINE)
    with pytest.raises(Full, match=r"maxUnauthenticated \(a fifth"):
        third.move(HOME)
    # It has its place, and only that.
    assert places._taken == places._newcomers == {THIS_MACHINE: 1, HOME: 2}
    third.leave()
    assert places._taken == places._newcomers == {HOME: 2}
    # Places that do not move are not counted anew.
    places.take(THIS_MACHINE).move(THIS_MACHINE)


def test_who_moves_and_logs_in_makes_room_for_newcomers_from_there() -> None:
    places = Lucky(LIMITS)
    for number in range(4):
        place = places.take(THIS_MACHINE)
        place.move(HOME)
        place.logged_in()
        assert places._taken[HOME] == number + 1
    with pytest.raises(Full, match="maxSessionsPerClient"):
        places.take(THIS_MACHINE).move(HOME)


def test_who_moves_is_drawn_for_as_a_newcomer() -> None:
    places = Drawing(LIMITS)
    moving = [places.take(THIS_MACHINE) for _ in range(4)]
    places.drawn = 0.3 - 0.001
    with pytest.raises(Full, match=r"maxUnauthenticated$"):
        moving[0].move(HOME)
    places.drawn = 0.3 + 0.001
    moving[0].move(HOME)


def test_the_last_place_can_be_moved() -> None:
    places = Lucky(LIMITS)
    moving = [places.take(THIS_MACHINE) for _ in range(10)]
    moving[0].move(HOME)


# Newcomers that are there, and the least draw with which one more gets in.
ODDS = [(0, 0.0), (2, 0.0), (3, 0.3), (4, 0.4), (6, 0.6), (9, 0.9)]


@pytest.mark.parametrize(("there", "least"), ODDS)
def test_the_more_newcomers_there_are_the_more_are_turned_away_at_random(there: int, least: float) -> None:
    places = Drawing(LIMITS)
    places.drawn = 1.0
    for number in range(there):
        places.take(f"192.0.2.{number}")
    if least:
        places.drawn = least - 0.001
        with pytest.raises(Full, match=r"maxUnauthenticated$"):
            places.take(STRANGER)
        # Not those of this machine.
        places.take(THIS_MACHINE).leave()
    places.drawn = least + 0.001
    places.take(STRANGER)


def test_a_draw_is_a_number_from_zero_to_below_one() -> None:
    draws = [Places._draw() for _ in range(1000)]
    assert 0 <= min(draws) < 0.1
    assert 0.9 < max(draws) < 1


def test_who_left_is_forgotten() -> None:
    places = Lucky(LIMITS)
    for number in range(100):
        places.take(f"192.0.2.{number}").leave()
    assert not places._taken
    assert not places._newcomers
    places.wait_until_free()


def test_places_are_scarce_when_the_next_who_comes_might_be_turned_away() -> None:
    places = Lucky(LIMITS)
    assert not places.are_scarce()
    newcomers = [places.take(STRANGER), places.take(HOME), places.take(HOME)]
    assert places.are_scarce()
    newcomers[0].logged_in()
    assert not places.are_scarce()
    for number in range(7):
        logged_in(places, f"192.0.2.{number}", 1)
    assert places.are_scarce()
    newcomers[0].leave()
    assert not places.are_scarce()


def test_where_one_newcomer_is_all_that_there_may_be_places_are_scarce_with_that_one() -> None:
    places = Lucky(replace(LIMITS, max_unauthenticated=1))
    places.take(STRANGER)
    assert places.are_scarce()
