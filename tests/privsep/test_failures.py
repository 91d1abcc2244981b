"""How failed logins slow down the next ones."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sendooway.privsep import failures
from sendooway.privsep.failures import FORGIVE_SECONDS, LONGEST_DELAY, Failures

FREE = 5
HOME, STRANGER = "192.0.2.7", "198.51.100.1"


def fail(memory: Failures, source: str, user: str, times: int, now: float = 0.0) -> None:
    for _ in range(times):
        memory.count(source, user, now, FREE)


@pytest.mark.parametrize(
    ("times", "seconds"), [(0, 0), (FREE - 1, 0), (FREE, 2), (FREE + 1, 4), (FREE + 3, 16), (FREE + 4, 30), (99, 30)]
)
def test_the_delay_of_a_user_grows_from_the_last_free_failure_on(times: int, seconds: float) -> None:
    memory = Failures()
    for number in range(times):
        memory.count(f"198.51.100.{number}", "alice", 0.0, FREE)
    assert memory.delay(STRANGER, "alice", 0.0, FREE) == seconds
    assert memory.delay(STRANGER, "bob", 0.0, FREE) == 0


@pytest.mark.parametrize(("times", "seconds"), [(FREE - 1, 0), (FREE, 2), (FREE + 1, 4), (99, 30)])
def test_the_delay_of_an_address_grows_whoever_it_tries_to_be(times: int, seconds: float) -> None:
    memory = Failures()
    for number in range(times):
        memory.count(STRANGER, f"user{number}", 0.0, FREE)
    assert memory.delay(STRANGER, "alice", 0.0, FREE) == seconds
    assert memory.delay(HOME, "alice", 0.0, FREE) == 0


def test_the_case_of_a_name_does_not_matter() -> None:
    memory = Failures()
    fail(memory, "", "Alice", FREE)
    assert memory.delay("", "ALICE", 0.0, FREE) == 2


def test_this_machine_is_no_address_that_others_have_to_wait_for() -> None:
    memory = Failures()
    fail(memory, "", "alice", 99)
    assert memory.delay("", "alice", 0.0, FREE) == LONGEST_DELAY
    assert memory.delay("", "bob", 0.0, FREE) == 0


def test_a_user_does_not_wait_for_strangers_where_he_has_logged_in_before() -> None:
    memory = Failures()
    memory.passed(HOME, "alice", 0.0, FREE)
    fail(memory, STRANGER, "alice", 99)
    fail(memory, HOME, "bob", 99)  # a neighbour behind the same address
    assert memory.delay(HOME, "alice", 0.0, FREE) == 0
    assert memory.delay(STRANGER, "alice", 0.0, FREE) == LONGEST_DELAY


def test_who_guesses_where_the_user_is_known_waits_too_until_the_user_logs_in() -> None:
    memory = Failures()
    memory.passed(HOME, "alice", 0.0, FREE)
    fail(memory, HOME, "alice", FREE - 1)
    assert memory.delay(HOME, "alice", 0.0, FREE) == 0
    fail(memory, HOME, "alice", 99)
    assert memory.delay(HOME, "alice", 0.0, FREE) == LONGEST_DELAY
    assert memory.delay(HOME, "bob", 0.0, FREE) == 0
    memory.passed(HOME, "alice", 0.0, FREE)
    assert memory.delay(HOME, "alice", 0.0, FREE) == 0


def test_an_own_login_does_not_make_up_for_guesses_at_others() -> None:
    memory = Failures()
    fail(memory, STRANGER, "alice", FREE + 1)
    memory.passed(STRANGER, "eve", 0.0, FREE)
    assert memory.delay(STRANGER, "alice", 0.0, FREE) == 4


def test_attempts_at_the_same_time_see_each_other_and_those_that_were_none_are_taken_back() -> None:
    memory = Failures()
    for _ in range(FREE):
        memory.count(STRANGER, "alice", 0.0, FREE)
    assert memory.delay(STRANGER, "alice", 0.0, FREE) == 2
    memory.take_back(STRANGER, "alice", 0.0, FREE)
    assert memory.delay(STRANGER, "alice", 0.0, FREE) == 0
    memory.count(STRANGER, "alice", 0.0, FREE)
    memory.passed(STRANGER, "alice", 0.0, FREE)
    assert memory.delay(HOME, "alice", 0.0, FREE) == memory.delay(STRANGER, "bob", 0.0, FREE) == 0
    memory.count(STRANGER, "alice", 0.0, FREE)
    for _ in range(3):
        memory.take_back(STRANGER, "alice", 0.0, FREE)
    fail(memory, STRANGER, "alice", FREE)
    assert memory.delay(STRANGER, "alice", 0.0, FREE) == 2


def test_failures_are_forgiven_one_by_one() -> None:
    memory = Failures()
    fail(memory, "", "alice", FREE + 1)
    assert memory.delay("", "alice", FORGIVE_SECONDS - 1, FREE) == 4
    assert memory.delay("", "alice", FORGIVE_SECONDS, FREE) == 2
    assert memory.delay("", "alice", FORGIVE_SECONDS * 2, FREE) == 0
    fail(memory, "", "alice", 10_000)
    assert memory.delay("", "alice", FORGIVE_SECONDS * (FREE + 6), FREE) == 0


@given(
    st.lists(
        st.tuples(st.booleans(), st.sampled_from(["", HOME, STRANGER]), st.sampled_from("ab"), st.floats(0, 100)),
    ),
    st.integers(1, 100),
)
def test_nobody_ever_waits_longer_than_the_longest_delay(
    attempts: list[tuple[bool, str, str, float]], free: int
) -> None:
    memory, now = Failures(), 0.0
    for right, source, user, pause in attempts:
        now += pause
        assert 0 <= memory.delay(source, user, now, free) <= LONGEST_DELAY
        if right:
            memory.passed(source, user, now, free)
        else:
            memory.count(source, user, now, free)


def test_memory_is_bounded_and_what_has_failed_most_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(failures, "MAX_RECORDS", 40)
    memory = Failures()
    fail(memory, STRANGER, "alice", FREE)
    for number in range(1000):
        memory.count(f"address{number}", f"user{number}", 1.0, FREE)
        assert len(memory._users._records) <= 40
        assert len(memory._sources._records) <= 40
    assert memory.delay(HOME, "alice", 1.0, FREE) == 2
    assert memory.delay(STRANGER, "bob", 1.0, FREE) == 2


def test_who_was_here_last_stays_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(failures, "MAX_KNOWN_USERS", 2)
    monkeypatch.setattr(failures, "MAX_ADDRESSES_OF_A_USER", 2)
    memory = Failures()
    for source, user in (("a", "one"), ("a", "two"), ("b", "one"), ("c", "one"), ("a", "three")):
        memory.passed(source, user, 0.0, FREE)
    known = {user: list(sources) for user, sources in memory._known.items()}
    assert known == {"one": ["b", "c"], "three": ["a"]}
