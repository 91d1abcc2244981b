"""LOGIN."""

import pytest

from sendooway.sasl import PasswordLogin, SaslError, login
from sendooway.secret import Secret


def test_the_server_asks_for_name_and_password_with_the_customary_prompts() -> None:
    server = login.server()
    assert next(server) == b"Username:"
    assert server.send("jürgen".encode()) == b"Password:"
    with pytest.raises(StopIteration) as end:
        server.send(b"s\xffcret")
    assert end.value.value == PasswordLogin("jürgen", "", Secret(b"s\xffcret"))


def test_a_name_that_is_no_text() -> None:
    server = login.server()
    next(server)
    server.send(b"\xff")
    with pytest.raises(SaslError):
        server.send(b"secret")


@pytest.mark.parametrize("prompts", [(b"Username:", b"Password:"), (b"", b""), (b"Benutzer?", b"\xff")])
def test_our_side_answers_whatever_the_prompts_say(prompts: tuple[bytes, bytes]) -> None:
    client = login.client("alice", Secret(b"secret"))
    assert next(client) is None
    assert client.send(prompts[0]) == b"alice"
    assert client.send(prompts[1]) == b"secret"
    with pytest.raises(SaslError):
        client.send(b"One more thing:")
