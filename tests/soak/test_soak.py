"""A short soak, and that it sees what it is there for."""

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest
from soak.__main__ import Soak
from soak.figures import Figures, growth
from soak.ledger import Ledger

REST = Figures({"monitor": 1, "proxy": 2}, descriptors=41, threads=5, monitor_memory=24_000, proxy_memory=26_000)


@pytest.mark.slow
def test_a_short_soak_breaks_no_promise(tmp_path: Path) -> None:
    soak = Soak(minutes=0.1, number=10, seed="sendooway", away_limit=60)
    asyncio.run(soak.run(tmp_path))
    assert soak.ledger.broken == []
    assert soak.ledger.counts["messages answered 2yz"] > 0


def test_what_stays_has_not_grown() -> None:
    assert growth(REST, replace(REST, proxy_memory=27_000)) == []


@pytest.mark.parametrize(
    "later",
    [
        replace(REST, processes={"monitor": 1, "proxy": 2, "agent": 1}),
        replace(REST, descriptors=42),
        replace(REST, threads=6),
        replace(REST, monitor_memory=40_000),
        replace(REST, proxy_memory=40_000),
    ],
)
def test_what_has_grown_is_told(later: Figures) -> None:
    assert len(growth(REST, later)) == 1


def test_a_message_that_both_sides_agree_on_breaks_no_promise() -> None:
    ledger = Ledger()
    ledger.client_finishes("a", b"Hello")
    ledger.smarthost_completes("a", b"Hello", accepts=True)
    ledger.client_hears("a", 250)
    assert ledger.broken == []


def test_a_refusal_of_what_was_accepted_breaks_none_either() -> None:
    # The smarthost was lost between its 250 and us: the client is told that delivery is unknown, and may try again.
    ledger = Ledger()
    ledger.client_finishes("a", b"Hello")
    ledger.smarthost_completes("a", b"Hello", accepts=True)
    ledger.client_hears("a", 451)
    assert ledger.broken == []


def test_a_false_success_is_seen() -> None:
    ledger = Ledger()
    ledger.client_finishes("a", b"Hello")
    ledger.smarthost_completes("a", b"Hello", accepts=False)
    ledger.client_hears("a", 250)
    assert len(ledger.broken) == 1


def test_a_message_that_the_client_did_not_finish_is_seen() -> None:
    ledger = Ledger()
    ledger.smarthost_completes("a", b"Hello", accepts=False)
    assert len(ledger.broken) == 1


def test_a_message_that_was_changed_is_seen() -> None:
    ledger = Ledger()
    ledger.client_finishes("a", b"Hello")
    ledger.smarthost_completes("a", b"hello", accepts=True)
    assert len(ledger.broken) == 1


def test_a_message_that_came_twice_is_seen() -> None:
    ledger = Ledger()
    ledger.client_finishes("a", b"Hello")
    for _ in range(2):
        ledger.smarthost_completes("a", b"Hello", accepts=True)
    assert len(ledger.broken) == 1
