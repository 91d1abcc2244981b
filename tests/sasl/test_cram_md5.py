"""CRAM-MD5, RFC 2195."""

import pytest

from sendooway.sasl import SaslError, cram_md5
from sendooway.secret import Secret


@pytest.mark.parametrize(
    ("username", "password", "challenge", "response"),
    [
        # The example of RFC 2195, 2.
        (
            "tim",
            b"tanstaaftanstaaf",
            b"<1896.697170952@postoffice.reston.mci.net>",
            b"tim b913a602c7eda7a495b4e6e7334d3890",
        ),
        # With a key of more than 64 octets, computed by OpenSSL.
        ("a b", b"k" * 100, b"<1@moon.test>", b"a b 669614682472ce333ae0ec3e6196561a"),
    ],
)
def test_the_response(username: str, password: bytes, challenge: bytes, response: bytes) -> None:
    client = cram_md5.client(username, Secret(password))
    assert next(client) is None
    assert client.send(challenge) == response
    with pytest.raises(SaslError):
        client.send(b"more?")
