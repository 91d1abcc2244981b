"""When two accounts count as the same."""

from dataclasses import replace

import pytest

from sendooway.accounts.account import Account, Credentials, FromCommand, FromFile, Security
from sendooway.auth.identity import Identity
from sendooway.config import UserSettings
from sendooway.origin import Origin
from sendooway.privsep.fingerprint import OCTETS, fingerprint
from sendooway.secret import Secret

KEY = b"k" * 32
ALICE = Identity("alice", 1000, 1000, "/home/alice")
SETTINGS = UserSettings("proxy.test")
PASSWORD = Secret(b"secret")
ACCOUNT = Account(
    ("alice@moon.test",),
    "mx.moon.test",
    587,
    Security.STARTTLS,
    True,
    Credentials("alice", PASSWORD),
    Origin("/home/alice/.fetchmailrc", 3),
)
COMMAND = replace(ACCOUNT, credentials=Credentials("alice", FromCommand(("pass", "moon"))))
BASE = fingerprint(KEY, ALICE, SETTINGS, ACCOUNT, PASSWORD)


def test_the_same_account_has_the_same_fingerprint_and_it_is_short() -> None:
    again = replace(ACCOUNT, credentials=Credentials("alice", Secret(b"secret")))
    assert fingerprint(KEY, ALICE, SETTINGS, again, Secret(b"secret")) == BASE
    assert len(BASE) == OCTETS


@pytest.mark.parametrize(
    "other",
    [
        fingerprint(b"l" * 32, ALICE, SETTINGS, ACCOUNT, PASSWORD),
        fingerprint(KEY, replace(ALICE, name="bob"), SETTINGS, ACCOUNT, PASSWORD),
        fingerprint(KEY, replace(ALICE, uid=1001), SETTINGS, ACCOUNT, PASSWORD),
        fingerprint(KEY, ALICE, replace(SETTINGS, localname="other.test"), ACCOUNT, PASSWORD),
        fingerprint(KEY, ALICE, SETTINGS, replace(ACCOUNT, host="mx.sun.test"), PASSWORD),
        fingerprint(KEY, ALICE, SETTINGS, replace(ACCOUNT, port=465), PASSWORD),
        fingerprint(KEY, ALICE, SETTINGS, replace(ACCOUNT, security=Security.NONE), PASSWORD),
        fingerprint(KEY, ALICE, SETTINGS, replace(ACCOUNT, check_certificate=False), PASSWORD),
        fingerprint(KEY, ALICE, SETTINGS, replace(ACCOUNT, certificate_sha256=b"x" * 32), PASSWORD),
        fingerprint(KEY, ALICE, SETTINGS, replace(ACCOUNT, ca_file="/ca.pem"), PASSWORD),
        fingerprint(KEY, ALICE, SETTINGS, replace(ACCOUNT, ehlo_name="other.test"), PASSWORD),
        fingerprint(KEY, ALICE, SETTINGS, replace(ACCOUNT, gssapi=True), PASSWORD),
        fingerprint(KEY, ALICE, SETTINGS, replace(ACCOUNT, origin=Origin("/home/alice/.fetchmailrc", 4)), PASSWORD),
        fingerprint(KEY, ALICE, SETTINGS, replace(ACCOUNT, credentials=Credentials("bob", PASSWORD)), PASSWORD),
        fingerprint(KEY, ALICE, SETTINGS, replace(ACCOUNT, credentials=None), None),
        fingerprint(KEY, ALICE, SETTINGS, ACCOUNT, Secret(b"secreT")),
        fingerprint(KEY, ALICE, SETTINGS, replace(ACCOUNT, credentials=Credentials("alice", FromFile("/f"))), PASSWORD),
        fingerprint(KEY, ALICE, SETTINGS, COMMAND, None),
        fingerprint(
            KEY, ALICE, SETTINGS, replace(COMMAND, credentials=Credentials("alice", FromCommand(("pass", "sun")))), None
        ),
    ],
)
def test_whatever_differs_makes_another_fingerprint(other: bytes) -> None:
    assert other != BASE
    assert other != fingerprint(KEY, ALICE, SETTINGS, COMMAND, PASSWORD)
