"""GSSAPI, with a stub in place of the security context: it says at each step what the test wants."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sendooway.sasl import gssapi
from sendooway.sasl.gssapi import NO_LAYER, ContextError, TicketLogin
from sendooway.sasl.mechanism import SaslError

TICKETS = object()
NAMES = st.text(st.characters(codec="utf-8"), max_size=30)


@dataclass
class Stub:
    """Gives `tokens` one after the other, and is complete with the last one; wraps by putting `w` in front."""

    tokens: Sequence[bytes]
    principal: str = "alice@EXAMPLE.TEST"
    tickets: object | None = None
    received: list[bytes] = field(default_factory=list)

    @property
    def complete(self) -> bool:
        return len(self.received) == len(self.tokens)

    def step(self, token: bytes) -> bytes:
        if token == b"bad":
            raise ContextError("a bad token")
        assert not self.complete
        self.received.append(token)
        return self.tokens[len(self.received) - 1]

    def wrap(self, message: bytes) -> bytes:
        assert self.complete
        return b"w" + message

    def unwrap(self, token: bytes) -> bytes:
        assert self.complete
        if token[:1] != b"w":
            raise ContextError("not wrapped")
        return token[1:]


def serve(stub: Stub, *responses: bytes) -> tuple[list[bytes], TicketLogin | None]:
    """The challenges to these responses, and what the client proved, if that was the end."""
    dialogue = gssapi.server(stub)
    challenges = [next(dialogue)]
    try:
        for response in responses:
            challenges.append(dialogue.send(response))
    except StopIteration as end:
        return challenges, end.value
    return challenges, None


def test_the_client_answers_the_last_token_with_nothing_and_then_takes_no_layer() -> None:
    stub = Stub([b"two"])
    assert serve(stub, b"one", b"", b"w\1\0\0\0") == (
        [b"", b"two", b"w\1\0\0\0"],
        TicketLogin("alice@EXAMPLE.TEST", "", None),
    )
    assert stub.received == [b"one"]


def test_without_a_last_token_the_layers_are_offered_at_once() -> None:
    assert serve(Stub([b""]), b"one", b"w\1\0\0\0alice")[0] == [b"", b"w\1\0\0\0"]


@given(st.lists(st.binary(min_size=1), min_size=1, max_size=20), st.booleans(), NAMES)
def test_there_may_be_any_number_of_rounds(tokens: list[bytes], mutual: bool, authzid: str) -> None:
    stub = Stub(tokens if mutual else [*tokens[:-1], b""], tickets=TICKETS)
    last = [b""] if mutual else []
    responses = [b"token"] * len(tokens) + last + [b"w\1\0\0\0" + authzid.encode()]
    challenges, login = serve(stub, *responses)
    assert login == TicketLogin("alice@EXAMPLE.TEST", authzid, TICKETS)
    assert challenges == [b"", *(token for token in stub.tokens if token), b"w\1\0\0\0"]


@pytest.mark.parametrize("size", [b"\0\0\0", b"\0\xff\xff", b"\xff\xff\xff"])
def test_the_size_of_a_client_s_buffer_does_not_matter(size: bytes) -> None:
    assert serve(Stub([b""]), b"one", b"w\1" + size + b"bob")[1] == TicketLogin("alice@EXAMPLE.TEST", "bob", None)


@pytest.mark.parametrize(
    ("responses", "error"),
    [
        ([b"bad"], ContextError),
        ([b"one", b"not empty"], SaslError),
        ([b"one", b"", b"\1\0\0\0"], ContextError),
        ([b"one", b"", b""], ContextError),
        ([b"one", b"", b"w"], SaslError),
        ([b"one", b"", b"w\1\0\0"], SaslError),
        ([b"one", b"", b"w\0\0\0\0"], SaslError),
        ([b"one", b"", b"w\2\0\xff\xff"], SaslError),
        ([b"one", b"", b"w\4\0\xff\xff"], SaslError),
        ([b"one", b"", b"w\3\0\0\0"], SaslError),
        ([b"one", b"", b"w\1\0\0\0\xff"], SaslError),
    ],
)
def test_a_client_that_does_not_keep_to_the_protocol_is_refused(responses: list[bytes], error: type[Exception]) -> None:
    with pytest.raises(error):
        serve(Stub([b"two"]), *responses)


@given(st.lists(st.binary(), max_size=5))
def test_any_octets_prove_something_or_are_a_documented_error(responses: list[bytes]) -> None:
    try:
        serve(Stub([b"two", b"three"]), *responses)
    except (ContextError, SaslError):
        return


def test_tickets_are_in_no_repr() -> None:
    assert "object" not in repr(TicketLogin("alice@EXAMPLE.TEST", "", TICKETS))


def ask(stub: Stub, *challenges: bytes) -> list[bytes | None]:
    """The responses to these challenges."""
    dialogue = gssapi.client(stub)
    return [next(dialogue), *(dialogue.send(challenge) for challenge in challenges)]


def test_the_first_token_is_the_initial_response() -> None:
    stub = Stub([b"one", b""])
    assert ask(stub, b"two", b"w\7\0\x20\0") == [b"one", b"", b"w\1\0\0\0"]
    assert stub.received == [b"", b"two"]


def test_a_client_without_mutual_authentication_is_offered_layers_at_once() -> None:
    assert ask(Stub([b"one"]), b"w\1\0\0\0") == [b"one", b"w\1\0\0\0"]


@pytest.mark.parametrize(
    ("challenges", "error"),
    [
        ([b"bad"], ContextError),
        ([b"two", b"no wrap"], ContextError),
        ([b"two", b"w"], SaslError),
        ([b"two", b"w\1\0\0"], SaslError),
        ([b"two", b"w\1\0\0\0\0"], SaslError),
        ([b"two", b"w\6\0\x20\0"], SaslError),
        ([b"two", b"w\1\0\0\0", b"more"], SaslError),
    ],
)
def test_a_server_that_does_not_keep_to_the_protocol_is_left(challenges: list[bytes], error: type[Exception]) -> None:
    with pytest.raises(error):
        ask(Stub([b"one", b""]), *challenges)


@given(st.integers(1, 10), st.integers(0, 1))
def test_both_sides_understand_each_other(rounds: int, more: int) -> None:
    """The initiator speaks first; whoever has the last word, both are complete then."""
    ours = Stub([b"i"] * rounds + [b""] * more)
    theirs = Stub([b"a"] * (rounds - 1 + more) + [b""] * (1 - more))
    asking, serving = gssapi.client(ours), gssapi.server(theirs)
    assert next(serving) == b""
    response = next(asking)
    login = None
    while login is None:
        assert response is not None
        try:
            challenge = serving.send(response)
        except StopIteration as end:
            login = end.value
        else:
            response = asking.send(challenge)
    assert login == TicketLogin("alice@EXAMPLE.TEST", "", None)
    assert response == b"w" + NO_LAYER
