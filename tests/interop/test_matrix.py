"""A slice of the matrix that `make interop` tries in full: each client once, each smarthost with some of them."""

from collections.abc import Iterator

import pytest
from interop.clients import CHUNKS, CLIENTS, CURL, Client
from interop.matrix import Matrix, compare, matrix
from interop.smarthosts import SMARTHOSTS

PAIRS = [(client, SMARTHOSTS[number % len(SMARTHOSTS)].name) for number, client in enumerate(CLIENTS)]
# Chunks go other ways through each of them.
PAIRS += [(CHUNKS, kind.name) for kind in SMARTHOSTS if (CHUNKS, kind.name) not in PAIRS]


@pytest.fixture(scope="module")
def everybody() -> Iterator[Matrix]:
    with matrix() as everybody:
        yield everybody


@pytest.mark.slow
@pytest.mark.parametrize(("client", "smarthost"), PAIRS, ids=str)
def test_a_message_arrives_octet_for_octet(client: Client, smarthost: str, everybody: Matrix) -> None:
    if reason := client.why_not() or everybody.missing.get(smarthost, ""):
        pytest.skip(reason)
    everybody.deliver(client, smarthost)


SENT = CURL.content("alice@moon.test", "bob@mars.test")
TRACE = b"Received: from x\r\n\tby mx.test\r\nReceived: from y\r\n\tby proxy.test (Sendooway)\r\n"


def test_a_message_behind_its_trace_is_the_same() -> None:
    compare(CURL, SENT, TRACE + SENT)


@pytest.mark.parametrize(
    "came",
    [
        SENT,
        TRACE + SENT[:-1],
        TRACE + SENT + b"\r\n",
        TRACE + SENT.replace(b"\xc3\xbc", b"\xfc"),
        TRACE + SENT.replace(b"\r\n..\r\n", b"\r\n.\r\n"),
        TRACE + TRACE + SENT,
        b"X-Added: 1\r\n" + TRACE + SENT,
    ],
)
def test_a_difference_is_seen(came: bytes) -> None:
    with pytest.raises(AssertionError):
        compare(CURL, SENT, came)
