"""What tells the proxy whether two accounts are the same, credentials included, without telling it anything else."""

from dataclasses import replace
from hashlib import blake2b

from sendooway.accounts.account import Account, FromCommand
from sendooway.auth.identity import Identity
from sendooway.config import UserSettings
from sendooway.secret import Secret

KEY_OCTETS = 32
OCTETS = 16


def fingerprint(key: bytes, user: Identity, settings: UserSettings, account: Account, password: Secret | None) -> bytes:
    """A keyed hash, of OCTETS, of all that decides whose connection it is and what it may be used for.

    `key` is secret; `password` is the one of now, None where it is not looked at.
    """
    digest = blake2b(key=key, digest_size=OCTETS)
    for part in (
        repr(user),
        repr(settings),
        repr(replace(account, credentials=None)),
        *_credentials(account),
        None if password is None else password.octets,
    ):
        octets = part.encode("utf-8", "surrogateescape") if isinstance(part, str) else part or b""
        # With its length, so that no part can be taken for the end of another.
        digest.update(len(octets).to_bytes(8, "big") + octets)
    return digest.digest()


def _credentials(account: Account) -> tuple[str, str]:
    """The login, and where its password comes from; a password that is told here is none of them."""
    if account.credentials is None:
        return "", ""
    source = account.credentials.password
    # A command's arguments are not shown by its repr.
    return account.credentials.username, repr(source.arguments if isinstance(source, FromCommand) else source)
