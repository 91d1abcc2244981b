"""Between messages and datagrams."""

import json
from dataclasses import fields

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sendooway.privsep import messages
from sendooway.privsep.messages import (
    MAX_OCTETS,
    MESSAGES,
    AccountFound,
    AccountMissing,
    LoginBegin,
    LoginCancel,
    LoginChallenge,
    LoginContinue,
    LoginDone,
    LoginRefused,
    LookUp,
    Message,
    ProtocolError,
    SaslResponse,
)
from sendooway.secret import Secret

ALL = frozenset(MESSAGES)

# Text as it comes out of octets of any kind: valid UTF-8, or surrogates for what is not.
TEXT = st.text() | st.binary().map(lambda octets: octets.decode("utf-8", "surrogateescape"))
VALUES: dict[object, st.SearchStrategy[object]] = {
    str: TEXT,
    bool: st.booleans(),
    int: st.integers(),
    int | None: st.none() | st.integers(),
    bytes: st.binary(),
    Secret: st.builds(Secret, st.binary()),
    Secret | None: st.none() | st.builds(Secret, st.binary()),
    tuple[str, ...]: st.lists(TEXT).map(tuple),
}
ANY_MESSAGE = st.one_of(
    [st.builds(kind, **{field.name: VALUES[field.type] for field in fields(kind)}) for kind in MESSAGES]
)


@pytest.mark.parametrize(
    ("message", "octets"),
    [
        (LoginCancel(), b'{"message":"LoginCancel"}'),
        (LookUp("a@b"), b'{"message":"LookUp","reverse_path":"a@b","ahead":false}'),
        (
            LookUp("\udcff\u00e9", ahead=True),
            b'{"message":"LookUp","reverse_path":"\\udcff\\u00e9","ahead":true}',
        ),
        (LoginChallenge(b"\x00\xff"), b'{"message":"LoginChallenge","challenge":"AP8="}'),
        (LoginContinue(Secret(b"")), b'{"message":"LoginContinue","response":""}'),
        (
            LoginBegin("PLAIN", None),
            b'{"message":"LoginBegin","mechanism":"PLAIN","initial_response":null}',
        ),
        (LoginRefused("later", True), b'{"message":"LoginRefused","verdict":"later","final":true}'),
        (AccountMissing(("x", "y")), b'{"message":"AccountMissing","searched":["x","y"]}'),
        (
            LoginDone("u", "h", True, False, 7, False),
            b'{"message":"LoginDone","user":"u","localname":"h","clone_ehlo":true,'
            b'"add_received_field":false,"timeout":7,"own_ca":false}',
        ),
    ],
)
def test_a_message_has_one_form(message: Message, octets: bytes) -> None:
    assert messages.format(message) == octets
    assert messages.parse(octets, ALL) == message


@given(ANY_MESSAGE)
def test_parse_undoes_format(message: Message) -> None:
    assert messages.parse(messages.format(message), ALL) == message
    assert messages.parse(messages.format(message), frozenset({type(message)})) == message


@given(ANY_MESSAGE)
def test_a_message_that_is_not_allowed_now_is_an_error(message: Message) -> None:
    with pytest.raises(ProtocolError):
        messages.parse(messages.format(message), ALL - {type(message)})


@given(st.binary())
def test_any_octets_give_a_message_or_the_error(octets: bytes) -> None:
    try:
        message = messages.parse(octets, ALL)
    except ProtocolError:
        return
    assert type(message) in ALL


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(
    st.sampled_from(MESSAGES),
    st.data(),
)
def test_any_values_give_a_message_or_the_error(kind: type[Message], data: st.DataObject) -> None:
    members = {field.name: data.draw(JSON) for field in fields(kind)}
    octets = json.dumps({"message": kind.__name__, **members}).encode()
    try:
        message = messages.parse(octets, ALL)
    except ProtocolError:
        return
    for field in fields(message):
        value = getattr(message, field.name)
        assert type(value) in (str, bool, int, bytes, Secret, tuple, type(None))


@pytest.mark.parametrize(
    "octets",
    [
        b"",
        b"null",
        b"[]",
        b'"LoginCancel"',
        b"{",
        b"{}",
        b'{"message":"LoginCancel"}x',
        b'{"message":"logincancel"}',
        b'{"message":"Message"}',
        b'{"message":null}',
        b'{"message":["LoginCancel"]}',
        b'{"message":"LoginCancel","message":"LoginCancel"}',
        b'{"message":"LoginCancel","more":1}',
        b'{"message":"LookUp"}',
        b'{"message":"LookUp","reverse_path":"a","reverse_path":"b"}',
        b'{"message":"LookUp","reverse_path":"a","user":"root"}',
        b'{"message":"LookUp","reverse_path":null}',
        b'{"message":"LookUp","reverse_path":1}',
        b'{"message":"LookUp","reverse_path":NaN}',
        b'{"message":"LookUp","reverse_path":1.5}',
        b'{"message":"LookUp","reverse_path":"\\ud800"}',
        b'{"message":"LookUp","reverse_path":"\\ud800\\ud800"}',
        b'{"message":"LookUp","reverse_path":"\xc3\xa9"}',
        b'{"message":"LookUp","reverse_path":"\n"}',
        b'{"message":"SaslBegin","number":true,"offered":[],"refused":[]}',
        b'{"message":"SaslBegin","number":1.0,"offered":[],"refused":[]}',
        b'{"message":"SaslBegin","number":"1","offered":[],"refused":[]}',
        b'{"message":"SaslBegin","number":1,"offered":"PLAIN","refused":[]}',
        b'{"message":"SaslBegin","number":1,"offered":[1],"refused":[]}',
        b'{"message":"SaslBegin","number":1,"offered":{},"refused":[]}',
        b'{"message":"SaslContinue","challenge":"a"}',
        b'{"message":"SaslContinue","challenge":"AP8=\\n"}',
        b'{"message":"SaslContinue","challenge":"\\u00e9"}',
        b'{"message":"SaslContinue","challenge":null}',
        b'{"message":"LoginContinue","response":[]}',
        b'{"message":"LoginRefused","verdict":"later","final":1}',
        b'{"message":"LookUp","reverse_path":' + b"[" * 60000,
        b'{"message":"SaslBegin","number":' + b"1" * 5000 + b',"offered":[],"refused":[]}',
        b'{"message":"LoginCancel"}' + b" " * MAX_OCTETS,
    ],
)
def test_what_is_no_message_is_refused(octets: bytes) -> None:
    with pytest.raises(ProtocolError):
        messages.parse(octets, ALL)


def test_a_message_too_long_is_not_sent() -> None:
    with pytest.raises(ProtocolError):
        messages.format(LookUp("x" * MAX_OCTETS))


def test_every_message_is_in_the_table() -> None:
    assert set(MESSAGES) == set(Message.__args__)


def test_an_error_tells_nothing_of_what_arrived() -> None:
    octets = messages.format(LoginContinue(Secret(b"hush")))
    for allowed, changed in ((ALL, octets[:-1] + b',"x":1}'), (frozenset(), octets)):
        with pytest.raises(ProtocolError) as caught:
            messages.parse(changed, allowed)
        assert "aHVza" not in str(caught.value)


def test_a_secret_shows_nothing_of_itself() -> None:
    shown = repr(SaslResponse("PLAIN", Secret(b"hush"))) + repr(LoginBegin("PLAIN", Secret(b"hush")))
    assert "hush" not in shown


def test_the_account_crosses_the_border_without_its_secret() -> None:
    assert all(field.type is not Secret for field in fields(AccountFound))
