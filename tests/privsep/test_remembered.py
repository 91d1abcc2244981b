"""Which passwords need not be proved again."""

import os
from pathlib import Path

import pytest
from clock import Clock
from hypothesis import given
from hypothesis import strategies as st

from sendooway.privsep import remembered
from sendooway.privsep.remembered import PROOF_OCTETS, Remembered, proof

KEY = b"k" * 32


@pytest.fixture
def databases(tmp_path: Path) -> list[str]:
    paths = [tmp_path / "passwd", tmp_path / "shadow"]
    for path in paths:
        path.write_text("alice")
    return list(map(str, paths))


@pytest.fixture
def known(databases: list[str], clock: Clock) -> Remembered:
    """alice's proof, for ten seconds."""
    known = Remembered(databases, clock)
    known.remember("alice", b"right", 10)
    return known


def test_only_the_same_user_with_the_same_proof_is_known(known: Remembered) -> None:
    assert known.knows("alice", b"right")
    assert not known.knows("alice", b"wrong")
    assert not known.knows("bob", b"right")


def test_it_is_known_for_its_time_only(known: Remembered, clock: Clock) -> None:
    clock.now = 9.9
    assert known.knows("alice", b"right")
    clock.now = 10.0
    assert not known.knows("alice", b"right")


def test_what_is_forgotten_is_not_known(known: Remembered) -> None:
    known.remember("bob", b"right too", 10)
    known.forget("alice")
    assert not known.knows("alice", b"right")
    assert known.knows("bob", b"right too")


@pytest.mark.parametrize("number", [0, 1])
@pytest.mark.parametrize("change", ["written", "replaced", "removed"])
def test_a_change_of_the_system_s_users_or_passwords_forgets_all(
    known: Remembered, databases: list[str], number: int, change: str
) -> None:
    path = Path(databases[number])
    match change:
        case "written":
            path.write_text("alice, and bob")
        case "replaced":
            new = path.with_name("new")
            new.write_text("bobby")
            os.replace(new, path)
        case _:
            path.unlink()
    assert not known.knows("alice", b"right")
    known.remember("alice", b"another", 10)
    assert known.knows("alice", b"another")


def test_of_too_many_users_the_one_is_forgotten_that_was_proved_longest_ago(
    known: Remembered, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remembered, "MAX_USERS", 2)
    known.remember("bob", b"b", 10)
    known.remember("alice", b"right", 10)
    known.remember("carol", b"c", 10)
    assert [known.knows(*entry) for entry in (("alice", b"right"), ("bob", b"b"), ("carol", b"c"))] == [
        True,
        False,
        True,
    ]


@given(st.text(max_size=5), st.binary(max_size=5), st.text(max_size=5), st.binary(max_size=5))
def test_a_proof_is_the_same_only_for_the_same_name_and_password(a: str, x: bytes, b: str, y: bytes) -> None:
    assert (proof(KEY, a, x) == proof(KEY, b, y)) is ((a, x) == (b, y))
    assert proof(KEY, a, x) != proof(b"l" * 32, a, x)
    assert len(proof(KEY, a, x)) == PROOF_OCTETS
