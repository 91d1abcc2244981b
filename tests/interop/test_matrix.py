"""A slice of the matrix that `make interop` tries in full: each client once, each smarthost with some of them."""

from collections.abc import Iterator

import pytest
from interop.clients import CLIENTS, Client
from interop.matrix import Matrix, matrix
from interop.smarthosts import SMARTHOSTS

pytestmark = pytest.mark.slow

PAIRS = [(client, SMARTHOSTS[number % len(SMARTHOSTS)].name) for number, client in enumerate(CLIENTS)]


@pytest.fixture(scope="module")
def everybody() -> Iterator[Matrix]:
    with matrix() as everybody:
        yield everybody


@pytest.mark.parametrize(("client", "smarthost"), PAIRS, ids=str)
def test_a_message_arrives_octet_for_octet(client: Client, smarthost: str, everybody: Matrix) -> None:
    if reason := client.why_not() or everybody.missing.get(smarthost, ""):
        pytest.skip(reason)
    everybody.deliver(client, smarthost)
