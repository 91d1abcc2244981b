"""CRAM-MD5, RFC 2195: proves the password without sending it. Only the client side: to
check it, one would have to know the password."""

from sendooway.sasl.mechanism import Client, SaslError
from sendooway.secret import Secret


def client(username: str, password: Secret) -> Client:
    import hmac  # two milliseconds that most starts save

    challenge = yield None
    digest = hmac.new(password.octets, challenge, "md5").hexdigest()
    yield username.encode("utf-8", "surrogateescape") + b" " + digest.encode("ascii")
    raise SaslError("a challenge after the CRAM-MD5 response")
