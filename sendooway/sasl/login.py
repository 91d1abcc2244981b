"""LOGIN: never a standard (draft-murchison-sasl-login-00), but some clients and smarthosts know nothing else."""

from sendooway.sasl.mechanism import Client, PasswordLogin, PasswordServer, SaslError, parse_name
from sendooway.secret import Secret


def server() -> PasswordServer:
    # Clients compare these prompts, some of them with their case and colon.
    username = yield b"Username:"
    password = yield b"Password:"
    return PasswordLogin(parse_name(username), "", Secret(password))


def client(username: str, password: Secret) -> Client:
    # The prompts are not looked at: servers word and translate them as they like.
    yield None
    yield username.encode("utf-8", "surrogateescape")
    yield password.octets
    raise SaslError("a third prompt after user name and password")
