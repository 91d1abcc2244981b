from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sendooway.accounts import direct
from sendooway.accounts.account import (
    Account,
    AccountsError,
    Credentials,
    FromCommand,
    FromCredential,
    FromFile,
    FromNetrc,
    Security,
)
from sendooway.origin import Origin
from sendooway.secret import Secret

ORIGIN = Origin("/etc/sendooway.conf", 4)
ALICE = Credentials("alice", Secret(b"secret"))


@pytest.mark.parametrize(
    ("argument", "account"),
    [
        (
            "alice@moon.test mx.moon.test 587 alice secret tls",
            Account(("alice@moon.test",), "mx.moon.test", 587, Security.STARTTLS, True, ALICE, ORIGIN),
        ),
        (
            " *@moon.test \t mx.moon.test   smtps alice secret SSL,nocertcheck ",
            Account(("*@moon.test",), "mx.moon.test", 465, Security.SMTPS, False, ALICE, ORIGIN),
        ),
        (
            "* localhost smtp - - noAuth",
            Account(("*",), "localhost", 25, Security.NONE, True, None, ORIGIN),
        ),
        (
            "* localhost 25 alice secret",
            Account(("*",), "localhost", 25, Security.NONE, True, ALICE, ORIGIN),
        ),
        (
            "<> localhost 25 alice - tls, noCertCheck",
            Account(("<>",), "localhost", 25, Security.STARTTLS, False, Credentials("alice", Secret(b"-")), ORIGIN),
        ),
        (
            "* localhost 25 alice p\udce4ss\u00a0w%rd",
            Account(
                *(("*",), "localhost", 25, Security.NONE, True),
                *(Credentials("alice", Secret(b"p\xe4ss\xc2\xa0w%rd")), ORIGIN),
            ),
        ),
        (
            "* localhost 587 - - gssapi,tls",
            Account(("*",), "localhost", 587, Security.STARTTLS, True, None, ORIGIN, gssapi=True),
        ),
        (
            "* localhost 587 alice - tls,GSSAPI",
            Account(("*",), "localhost", 587, Security.STARTTLS, True, None, ORIGIN, gssapi=True),
        ),
        (
            "* localhost 587 alice secret tls,gssapi",
            Account(("*",), "localhost", 587, Security.STARTTLS, True, ALICE, ORIGIN, gssapi=True),
        ),
        # What was a password before there were other forms still is one.
        (
            "* localhost 25 alice file:/etc/secret",
            Account(
                *(("*",), "localhost", 25, Security.NONE, True),
                *(Credentials("alice", Secret(b"file:/etc/secret")), ORIGIN),
            ),
        ),
        *(
            (
                f"* localhost 587 alice - {options}",
                Account(("*",), "localhost", 587, security, True, Credentials("alice", password), ORIGIN, gssapi),
            )
            for options, security, password, gssapi in (
                ("passwordFrom=file:/etc/s", Security.NONE, FromFile("/etc/s"), False),
                ("tls, PASSWORDFROM = file:~/a,  b", Security.STARTTLS, FromFile("~/a,  b"), False),
                ("gssapi,passwordFrom=credential:moon", Security.NONE, FromCredential("moon"), True),
                ("ssl,passwordFrom=netrc:", Security.SMTPS, FromNetrc(("localhost",), "alice"), False),
                (
                    "tls,passwordFrom=command:pw -k,passwordFrom=x 'a  b'",
                    Security.STARTTLS,
                    FromCommand(("pw", "-k,passwordFrom=x", "a  b")),
                    False,
                ),
            )
        ),
    ],
)
def test_a_mapping_is_an_account(argument: str, account: Account) -> None:
    assert direct.parse(argument, ORIGIN) == (account,)
    assert direct.parse(argument, ORIGIN)[0].origin == ORIGIN


@pytest.mark.parametrize(
    ("argument", "reason"),
    [
        ("", "needs PATTERN HOST PORT USER PASSWORD"),
        ("* localhost 25 alice", "needs PATTERN HOST PORT USER PASSWORD"),
        ("alice localhost 25 alice secret", "an address must read"),
        ("* local/host 25 alice secret", "host name"),
        ("* localhost imap alice secret", "smtp, submission, submissions, smtps"),
        ("* localhost 25 - secret", "noAuth, or gssapi"),
        ("* localhost 25 - - noAuth,gssapi", "not both"),
        ("* localhost 25 al\x01ice secret", "user name"),
        ("* localhost 25 alice sec\0ret", "NUL"),
        ("* localhost 25 alice secret tls,ssl", "not both"),
        ("* localhost 25 alice secret starttls", "tls, ssl, noCertCheck, noAuth"),
        ("* localhost 25 alice secret tls noCertCheck", "tls, ssl, noCertCheck, noAuth"),
        ("* localhost 25 alice secret tls,", "tls, ssl, noCertCheck, noAuth"),
        ("* localhost 25 alice secret passwordFrom=file:/x", "PASSWORD of -"),
        ("* localhost 25 alice - noAuth,passwordFrom=file:/x", "no noAuth"),
        ("* localhost 25 - - passwordFrom=file:/x", "noAuth, or gssapi"),
        ("* localhost 25 - - gssapi,passwordFrom=file:/x", "gssapi without passwordFrom"),
        ("* localhost 25 alice - tls passwordFrom=file:/x", "passwordFrom=SOURCE"),
        ("* localhost 25 alice - passwordFrom", "passwordFrom=SOURCE"),
        ("* localhost 25 alice - passwordFrom=secret", "file:PATH, command:WORD"),
    ],
)
def test_an_error_names_the_place_and_what_would_be_right(argument: str, reason: str) -> None:
    with pytest.raises(AccountsError, match=reason) as raised:
        direct.parse(argument, ORIGIN)
    assert str(raised.value).startswith("/etc/sendooway.conf:4: ")
    assert "secret" not in str(raised.value)


@given(st.binary().map(lambda octets: octets.decode("utf-8", "surrogateescape")))
def test_any_text_is_an_account_or_an_error(argument: str) -> None:
    with suppress(AccountsError):
        assert len(direct.parse(argument, ORIGIN)) == 1
