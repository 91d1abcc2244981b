"""PLAIN, RFC 4616: `authzid NUL authcid NUL password` in one message."""

from sendooway.sasl.mechanism import Client, PasswordLogin, PasswordServer, SaslError, parse_name
from sendooway.secret import Secret


def server() -> PasswordServer:
    """Its only challenge is empty: the client speaks first."""
    message = yield b""
    fields = message.split(b"\0")
    if len(fields) != 3:
        raise SaslError("a PLAIN message has three fields")
    authzid, authcid, password = fields
    return PasswordLogin(parse_name(authcid), parse_name(authzid), Secret(password))


def client(username: str, password: Secret) -> Client:
    yield b"\0" + username.encode("utf-8", "surrogateescape") + b"\0" + password.octets
    raise SaslError("a challenge after the PLAIN message")
