"""The same octets, received in other pieces."""

from collections.abc import Iterator
from itertools import pairwise

from hypothesis import strategies as st


def whole(octets: bytes) -> list[bytes]:
    return [octets]


def by_octet(octets: bytes) -> list[bytes]:
    return [octets[at : at + 1] for at in range(len(octets))]


WAYS = [whole, by_octet]


def cut(octets: bytes, places: list[int]) -> Iterator[bytes]:
    """The octets, cut wherever `places`, taken modulo their number, say."""
    borders = sorted({place % (len(octets) + 1) for place in places} | {0, len(octets)})
    return (octets[start:end] for start, end in pairwise(borders))


places = st.lists(st.integers(min_value=0, max_value=2**16), max_size=12)
