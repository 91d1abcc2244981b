from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sendooway.accounts import putmail
from sendooway.accounts.account import Account, AccountsError, Credentials, NoAccountFile, Security, Unusable
from sendooway.auth.identity import Identity
from sendooway.origin import Origin
from sendooway.secret import Secret

ALICE = Identity("alice", 1000, 1000, "/home/alice")

MOON = "[config]\nserver = mx.moon.test\nemail = alice@moon.test\n"
LOGIN = "username = alice\npassword = secret\n"


def parse(text: str, file: str = "/home/alice/.putmail/putmailrc") -> Account | Unusable | None:
    (entry,) = putmail.parse(text, file, ALICE).entries
    return entry.account


def account(
    port: int = 25,
    security: Security = Security.NONE,
    password: bytes | None = b"secret",
    patterns: tuple[str, ...] = ("alice@moon.test",),
) -> Account:
    credentials = None if password is None else Credentials("alice", Secret(password))
    return Account(patterns, "mx.moon.test", port, security, True, credentials, Origin("rc", 1))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (MOON, account(password=None)),
        (MOON + "username =\npassword =\n", account(password=None)),
        (MOON + LOGIN, account()),
        (MOON + LOGIN + "port = 587\ntls = on\n", account(port=587, security=Security.STARTTLS)),
        (MOON + LOGIN + "TLS: Yes\nquiet = yes\n", account(security=Security.STARTTLS)),
        (MOON + LOGIN + "tls = off\nport =\n", account()),
        (MOON + "username = alice\npassword = 100% %(x)s # ;\n", account(password=b"100% %(x)s # ;")),
        (MOON + LOGIN + "address = *@moon.test, ALICE@moon.test\naddress = *\n",
         account(patterns=("alice@moon.test", "*@moon.test", "ALICE@moon.test", "*"))),
        ("[other]\nx = y\n" + MOON + LOGIN, account()),
    ],
)  # fmt: skip
def test_a_file_is_an_account(text: str, expected: Account) -> None:
    assert parse(text) == expected


def test_the_name_of_the_file_may_be_a_sender_too() -> None:
    assert parse(MOON + LOGIN, "/x/me@moon.test") == account(patterns=("alice@moon.test", "me@moon.test"))
    assert parse(MOON + LOGIN, "/x/alice@moon.test") == account()


def test_an_account_without_its_password_is_known_but_unusable() -> None:
    found = parse(MOON + "username = alice\n")
    assert isinstance(found, Unusable)
    assert (found.username, found.lacks_login, found.patterns) == ("alice", True, ("alice@moon.test",))


def test_what_is_not_done_is_said() -> None:
    listing = putmail.parse(MOON + "keychain = Mine\nsecret = x\n", "rc", ALICE)
    assert [str(problem) for problem in listing.problems] == [
        "rc:4: no keychain is opened",
        "rc:5: this key means nothing here",
    ]


@pytest.mark.parametrize(
    ("text", "line", "reason"),
    [
        ("[config]\nemail = a@b\n", 1, "the server must be"),
        ("[config]\nserver = mx\n", 1, "an address must read"),
        (MOON + "port = 0\n", 4, "65535"),
        (MOON + "tls = secret\n", 4, "tls must be one of 1, yes, true, on, 0, no, false, off"),
        (MOON + "address = *, secret\n", 4, "an address must read"),
        (MOON + "username = a\n b\n", 4, "user name"),
        (MOON + "password = a\0secret\n", 4, "NUL"),
        (MOON + "email = x@y\n", 4, "twice"),
        ("[config]\nsecret\n", 2, "`key = value`"),
    ],
)
def test_an_error_names_the_line_and_what_would_be_right(text: str, line: int, reason: str) -> None:
    with pytest.raises(AccountsError, match=reason) as raised:
        parse(text, "rc")
    assert raised.value.origin == Origin("rc", line)
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize("text", ["", "a queue of mails\n", "[Config]\nserver = mx\n"])
def test_another_file_is_none_of_putmail(text: str) -> None:
    with pytest.raises(NoAccountFile):
        parse(text)


def test_a_line_without_a_section_hears_of_no_section_of_another_program() -> None:
    with pytest.raises(NoAccountFile, match=r"a section must begin before this line, by its name in brackets"):
        parse("garbage\n")


@given(
    st.one_of(
        st.binary().map(lambda octets: octets.decode("utf-8", "surrogateescape")),
        st.lists(st.sampled_from([*MOON.splitlines(), *LOGIN.splitlines(), "tls=on", " x", "port=", "address=*"])).map(
            "\n".join
        ),
    )
)
def test_any_text_gives_an_account_or_an_error(text: str) -> None:
    with suppress(AccountsError):
        parse(text)
