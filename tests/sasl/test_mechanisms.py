"""Which mechanisms there are, and which one is used."""

import pytest

from sendooway import sasl
from sendooway.secret import Secret

ALL = ("CRAM-MD5", "PLAIN", "LOGIN")


@pytest.mark.parametrize(
    ("offered", "always", "never", "refused", "chosen"),
    [
        (("LOGIN", "PLAIN", "CRAM-MD5", "EXTERNAL"), (), (), (), "CRAM-MD5"),
        (("LOGIN", "PLAIN"), (), (), (), "PLAIN"),
        (("LOGIN",), (), (), (), "LOGIN"),
        (("EXTERNAL",), (), (), (), None),
        ((), (), (), (), None),
        # Never is never, even where it is offered.
        (ALL, (), ("CRAM-MD5",), (), "PLAIN"),
        (ALL, ("CRAM-MD5",), ("CRAM-MD5",), (), "PLAIN"),
        (ALL, (), ALL, (), None),
        # What is always tried is tried in its turn, offered or not.
        ((), ("LOGIN",), (), (), "LOGIN"),
        (("PLAIN",), ("LOGIN",), (), (), "PLAIN"),
        (("LOGIN",), ("PLAIN",), (), (), "PLAIN"),
        # What was refused is not tried again.
        (ALL, (), (), ("CRAM-MD5",), "PLAIN"),
        (ALL, ALL, (), ("CRAM-MD5", "PLAIN"), "LOGIN"),
        (ALL, ALL, (), ALL, None),
    ],
)
def test_the_strongest_that_may_be_used_is_chosen(
    offered: tuple[str, ...],
    always: tuple[str, ...],
    never: tuple[str, ...],
    refused: tuple[str, ...],
    chosen: str | None,
) -> None:
    assert sasl.choose(offered, always, never, refused) == chosen


def test_each_mechanism_of_the_tables_can_be_begun() -> None:
    for name in sasl.SERVERS:
        assert isinstance(next(sasl.server(name)), bytes)
    for name in sasl.CLIENTS:
        next(sasl.client(name, "alice", Secret(b"secret")))


@pytest.mark.parametrize("name", ["plain", "NONSENSE"])
def test_other_mechanisms_do_not_exist(name: str) -> None:
    with pytest.raises(KeyError):
        sasl.server(name)
    with pytest.raises(KeyError):
        sasl.client(name, "alice", Secret(b"secret"))


@pytest.mark.parametrize(
    ("mechanism", "initial_response", "name"),
    [
        ("PLAIN", b"\0alice\0secret", "alice"),
        ("PLAIN", b"bob\0alice\0secret", "alice"),
        ("PLAIN", None, ""),
        ("PLAIN", b"alice", ""),
        ("PLAIN", b"\0\xff\0secret", ""),
        ("LOGIN", b"alice", ""),
        ("GSSAPI", b"\0alice\0secret", ""),
    ],
)
def test_a_first_message_may_tell_who_it_is(mechanism: str, initial_response: bytes | None, name: str) -> None:
    assert sasl.claimed(mechanism, initial_response) == name
