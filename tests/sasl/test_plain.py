"""PLAIN, RFC 4616."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sendooway.sasl import PasswordLogin, SaslError, plain
from sendooway.secret import Secret


def claim(message: bytes) -> PasswordLogin:
    server = plain.server()
    assert next(server) == b""
    with pytest.raises(StopIteration) as end:
        server.send(message)
    login = end.value.value
    assert isinstance(login, PasswordLogin)
    return login


@pytest.mark.parametrize(
    ("message", "login"),
    [
        (b"\0alice\0secret", PasswordLogin("alice", "", Secret(b"secret"))),
        (b"alice\0alice\0secret", PasswordLogin("alice", "alice", Secret(b"secret"))),
        # The examples of RFC 4616, 4.
        (b"\0tim\0tanstaaftanstaaf", PasswordLogin("tim", "", Secret(b"tanstaaftanstaaf"))),
        (b"Ursel\0Kurt\0xipj3plmq", PasswordLogin("Kurt", "Ursel", Secret(b"xipj3plmq"))),
        ("\0jürgen\0geheim\xa0".encode(), PasswordLogin("jürgen", "", Secret(b"geheim\xc2\xa0"))),
        (b"\0alice\0\xff", PasswordLogin("alice", "", Secret(b"\xff"))),
        (b"\0\0", PasswordLogin("", "", Secret(b""))),
    ],
)
def test_the_claim_of_a_client(message: bytes, login: PasswordLogin) -> None:
    assert claim(message) == login


@pytest.mark.parametrize(
    "message", [b"", b"alice", b"alice\0secret", b"\0alice\0secret\0", b"\0\xff\0secret", b"\xff\0alice\0secret"]
)
def test_a_malformed_message(message: bytes) -> None:
    server = plain.server()
    next(server)
    with pytest.raises(SaslError) as error:
        server.send(message)
    assert "secret" not in str(error.value)


def test_the_password_does_not_show() -> None:
    assert "secret" not in repr(claim(b"\0alice\0secret"))


def test_the_message_of_our_side() -> None:
    client = plain.client("alice", Secret(b"s\xffcret"))
    assert next(client) == b"\0alice\0s\xffcret"
    with pytest.raises(SaslError):
        client.send(b"more?")


_word = st.text(st.characters(exclude_characters="\0", codec="utf-8"))


@given(_word, _word)
def test_the_server_side_understands_the_client_side(username: str, password: str) -> None:
    message = next(plain.client(username, Secret(password.encode())))
    assert message is not None
    assert claim(message) == PasswordLogin(username, "", Secret(password.encode()))


def test_a_name_of_a_file_in_another_encoding_goes_out_as_it_was() -> None:
    assert next(plain.client("j\udcfcrgen", Secret(b"x"))) == b"\0j\xfcrgen\0x"
