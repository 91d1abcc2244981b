"""SECURITY.md names for each promise the tests that hold it: they are there."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "SECURITY.md").read_text()
PROMISES = re.split(r"^(?=\d+\. )", TEXT.partition("## Promises")[2].partition("## What each")[0], flags=re.MULTILINE)[
    1:
]
NAMED = sorted(set(re.findall(r"`(tests/[^`]+)`", TEXT)))


def test_promises_are_numbered_from_one_on() -> None:
    assert [int(promise.partition(".")[0]) for promise in PROMISES] == list(range(1, len(PROMISES) + 1))


@pytest.mark.parametrize("promise", PROMISES, ids=lambda promise: promise.partition(".")[0])
def test_a_promise_names_what_holds_it(promise: str) -> None:
    assert re.search(r"`tests/[^`]+`", promise)


@pytest.mark.parametrize("name", NAMED)
def test_what_holds_a_promise_is_there(name: str) -> None:
    path, separator, test = name.partition("::")
    if separator:
        assert re.search(rf"^def {test}\(", (ROOT / path).read_text(), re.MULTILINE)
    else:
        assert list(ROOT.glob(path))
