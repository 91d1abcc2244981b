from contextlib import suppress
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sendooway.accounts import fetchmail
from sendooway.accounts.account import (
    Account,
    AccountsError,
    Credentials,
    FromCommand,
    FromFile,
    FromNetrc,
    Password,
    Security,
    Unusable,
)
from sendooway.accounts.entry import Retriever
from sendooway.auth.identity import Identity
from sendooway.origin import Origin
from sendooway.secret import Secret

ALICE = Identity("alice", 1000, 1000, "/home/alice")

POLL = 'poll mailbox.moon.test proto pop3 user "alice" pass "secret"\n'


def parse(text: str, file: str) -> tuple[Account | Unusable, ...]:
    """The accounts of the entries that have one."""
    return tuple(entry.account for entry in fetchmail.parse(text, file, ALICE).entries if entry.account)


def account(
    host: str = "mx.moon.test",
    port: int = 25,
    security: Security = Security.NONE,
    username: str | None = "alice",
    password: bytes = b"secret",
    patterns: tuple[str, ...] = ("alice@moon.test",),
    check_certificate: bool = True,
    gssapi: bool = False,
) -> Account:
    credentials = None if username is None else Credentials(username, Secret(password))
    return Account(patterns, host, port, security, check_certificate, credentials, Origin("rc", 0), gssapi)


def annotations(*lines: str) -> str:
    return "".join(f"  #sendooway:{line}\n" for line in lines)


SERVER = 'server "mx.moon.test"'
ADDRESS = 'address "alice@moon.test"'


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([SERVER, ADDRESS], [account()]),
        ([SERVER, "tls", ADDRESS], [account(port=587, security=Security.STARTTLS)]),
        ([SERVER, "SSL", ADDRESS], [account(port=465, security=Security.SMTPS)]),
        ([SERVER, "tls", "port 2525", ADDRESS], [account(port=2525, security=Security.STARTTLS)]),
        ([SERVER, "Port\tsubmission  ", ADDRESS], [account(port=587)]),
        ([SERVER, "NOCERTCHECK", ADDRESS], [account(check_certificate=False)]),
        ([SERVER, "noAuth", ADDRESS], [account(username=None)]),
        ([SERVER, 'user ""', ADDRESS], [account(username=None)]),
        ([SERVER, "gssapi", ADDRESS], [account(gssapi=True)]),
        ([SERVER, "GSSAPI", 'user ""', ADDRESS], [account(username=None, gssapi=True)]),
        ([SERVER, "gssapi", ADDRESS, SERVER, ADDRESS], [account(gssapi=True), account()]),
        ([SERVER, "user bob", ADDRESS], [account(username="bob")]),
        ([SERVER, "pass other", ADDRESS], [account(password=b"other")]),
        ([SERVER, 'pass ""', ADDRESS], [account(password=b"")]),
        ([SERVER, r"pass \x41\\n\\", ADDRESS], [account(password=rb"\x41\\n\\")]),
        ([SERVER, 'pass "with blank #"', ADDRESS], [account(password=b"with blank #")]),
        ([SERVER, 'pass "a"b"', ADDRESS], [account(password=b'a"b')]),
        ([SERVER, "pass \udce4", ADDRESS], [account(password=b"\xe4")]),
        (["server m", "user u", "pass p", "address *"], [account("m", username="u", password=b"p", patterns=("*",))]),
        (
            [SERVER, ADDRESS, "address *@moon.test", "address <>"],
            [account(patterns=("alice@moon.test", "*@moon.test", "<>"))],
        ),
        # Nothing leaks into the next account.
        (
            [SERVER, "ssl", "port 1", "user u", "pass p", "noCertCheck", ADDRESS, "server mx.sun.test", "address *"],
            [
                account(port=1, security=Security.SMTPS, username="u", password=b"p", check_certificate=False),
                account("mx.sun.test", patterns=("*",)),
            ],
        ),
        ([SERVER, "noAuth", ADDRESS, "tls", SERVER, ADDRESS],
         [account(username=None), account(port=587, security=Security.STARTTLS)]),
    ],
)  # fmt: skip
@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_annotations_are_accounts(lines: list[str], expected: list[Account], line_end: str) -> None:
    assert parse((POLL + annotations(*lines)).replace("\n", line_end), "rc") == tuple(expected)


def username_and_password(found: Account | Unusable) -> tuple[str, str, bytes]:
    assert isinstance(found, Account)
    assert found.credentials
    assert isinstance(found.credentials.password, Secret)
    return found.host, found.credentials.username, found.credentials.password.octets


def test_what_is_missing_comes_from_the_user_in_whose_part_the_comments_stand() -> None:
    text = (
        "defaults pass d\n"
        "poll a\n" + annotations("server one", "address *") + "user alice pass x\n"
        "#sendooway:server two\n#sendooway:address *\n"
        "user bob there with\n"
        "#sendooway:server three\n#sendooway:address *\n"
        "password y\n"
        "# pass z\n"
        "user carol\n#sendooway:server four\n#sendooway:address *\n"
        "poll b user dave pass v\n#sendooway:server five\n#sendooway:address *\n"
    )
    assert [username_and_password(found) for found in parse(text, "rc")] == [
        ("one", "alice", b"x"),
        ("two", "alice", b"x"),
        ("three", "bob", b"y"),
        ("four", "carol", b"d"),
        ("five", "dave", b"v"),
    ]


@pytest.mark.parametrize(
    ("line", "password"),
    [
        ("passwordFrom file:~/moon", FromFile("~/moon")),
        ('PasswordFrom "command:sh -c \'head -1 "x y"\' a\\ b"', FromCommand(("sh", "-c", 'head -1 "x y"', "a b"))),
        ("passwordfrom netrc:", FromNetrc(("mx.moon.test",), "alice")),
    ],
)
def test_a_password_may_come_from_elsewhere(line: str, password: Password) -> None:
    (found,) = parse(POLL + annotations(line, SERVER, ADDRESS), "rc")
    assert isinstance(found, Account)
    assert found.credentials == Credentials("alice", password)


def test_an_account_may_begin_before_the_first_user_and_end_in_its_part() -> None:
    text = "poll a\n#sendooway:server one\nuser alice pass x\n#sendooway:address *\n"
    assert [username_and_password(found) for found in parse(text, "rc")] == [("one", "alice", b"x")]


def test_accounts_outside_all_entries_need_their_own_credentials() -> None:
    complete = annotations("server mx.moon.test", "user alice", "pass secret", ADDRESS)
    for text in (complete, complete + POLL, POLL + "set daemon 5\n" + complete, "defaults keep\n" + complete):
        assert parse(text, "rc") == (account(),)


def test_a_mailbox_without_a_user_name_is_that_of_the_user() -> None:
    (found,) = parse("poll a pass secret\n" + annotations(SERVER, ADDRESS), "rc")
    assert username_and_password(found) == ("mx.moon.test", "alice", b"secret")


def test_every_mailbox_is_listed_with_what_it_says_itself() -> None:
    text = (
        "poll a via b proto imap port 993 user bob pass x ssl is c d = e here to *\n"
        "#sendooway:server mx\n#sendooway:noAuth\n#sendooway:address *\n"
        "user carol\n"
        "skip f\n"
    )
    netrc = FromNetrc(("a", "b"), "carol")
    common = Retriever("a", "b", "993", "IMAP", False, "carol", None, ("alice",), netrc)
    entries = fetchmail.parse(text, "rc", ALICE).entries
    assert [(entry.origin.line, entry.patterns) for entry in entries] == [(2, ("*",)), (5, ()), (6, ())]
    assert [entry.retriever for entry in entries] == [
        replace(
            common,
            username="bob",
            password=Secret(b"x"),
            password_source=Secret(b"x"),
            ssl=True,
            local_names=("c", ("d", "e"), "*"),
        ),
        common,
        Retriever("f", None, None, "auto", False, "alice", None, ("alice",), FromNetrc(("f",), "alice")),
    ]


@pytest.mark.parametrize(
    ("entry", "password"),
    [
        ("poll a user bob", FromNetrc(("a",), "bob")),
        ("poll a via b user bob", FromNetrc(("a", "b"), "bob")),
        ("poll a", FromNetrc(("a",), "alice")),
        ("defaults via b poll a user bob", FromNetrc(("a", "b"), "bob")),
        ("poll a user bob passwordfile '~/x y'", FromFile("~/x y")),
        ("poll a user bob pass c passwordfile /x", Secret(b"c")),
        ("poll a user bob pass ''", Secret(b"")),
    ],
)
def test_a_password_comes_from_where_fetchmail_looks_for_it(entry: str, password: Password) -> None:
    (found,) = parse(entry + "\n" + annotations(SERVER, ADDRESS), "rc")
    assert isinstance(found, Account)
    assert found.credentials
    assert found.credentials.password == password
    (found,) = parse(entry + "\n" + annotations(SERVER, "user carol", "pass d", ADDRESS), "rc")
    assert isinstance(found, Account)
    assert found.credentials == Credentials("carol", Secret(b"d"))


def test_where_fetchmail_needs_no_password_the_name_of_the_user_stands_for_it() -> None:
    text = "poll a auth gssapi user bob user carol pass c poll d proto etrn\nskip e auth ssh\n"
    entries = fetchmail.parse(text, "rc", ALICE).entries
    passwords = [entry.retriever.password if entry.retriever else None for entry in entries]
    assert passwords == [Secret(b"bob"), Secret(b"c"), Secret(b"alice"), None]
    sources = [entry.retriever.password_source if entry.retriever else None for entry in entries]
    assert sources == [
        FromNetrc(("a",), "bob"),
        Secret(b"c"),
        FromNetrc(("d",), "alice"),
        FromNetrc(("e",), "alice"),
    ]


def test_accounts_outside_all_entries_have_no_mailbox() -> None:
    text = annotations(SERVER, "noAuth", ADDRESS)
    assert [entry.retriever for entry in fetchmail.parse(text, "rc", ALICE).entries] == [None]


def test_with_tickets_no_credentials_are_needed() -> None:
    text = annotations(SERVER, "gssapi", ADDRESS)
    assert parse(text, "rc") == (account(username=None, gssapi=True),)
    assert parse("poll a\nuser alice\n" + text, "rc") == (account(username=None, gssapi=True),)


def test_accounts_come_in_the_order_of_the_file() -> None:
    one = annotations("server mx", "user a", "pass b", "address *")
    lines = [found.origin.line for found in parse(one + POLL + one + "set syslog\n" + one + POLL + one, "rc")]
    assert lines == [1, 6, 11, 16]


def test_a_file_without_annotations_has_no_account() -> None:
    assert parse(POLL + "# sendooway:server x\n#sendoowayx\n", "rc") == ()


@pytest.mark.parametrize(
    ("text", "line", "reason"),
    [
        (annotations(SERVER, ADDRESS), 1, "no user name: add #sendooway:user"),
        (annotations(SERVER, "user alice", ADDRESS), 1, "no password: add #sendooway:pass"),
        ("poll a user ''\n" + annotations(SERVER, ADDRESS), 2, "no user name"),
    ],
)
def test_an_account_without_credentials_is_known_but_unusable(text: str, line: int, reason: str) -> None:
    (found,) = parse(text, "rc")
    assert isinstance(found, Unusable)
    assert found.patterns == ("alice@moon.test",)
    assert found.origin == Origin("rc", line)
    assert reason in found.reason


@pytest.mark.parametrize(
    ("text", "line", "reason"),
    [
        (POLL + annotations(SERVER), 2, "no #sendooway:address closes this account"),
        (POLL + annotations(SERVER) + "user bob\n" + annotations(ADDRESS), 2, "no #sendooway:address closes"),
        (POLL + annotations(SERVER) + POLL + annotations(ADDRESS), 2, "no #sendooway:address closes"),
        (POLL + annotations(ADDRESS), 2, "#sendooway:server is missing"),
        (POLL + annotations("tls", ADDRESS), 2, "#sendooway:server is missing"),
        (POLL + annotations(SERVER, ADDRESS, "tls", ADDRESS), 4, "#sendooway:server is missing"),
        (POLL + annotations(SERVER, "gssapi", "noAuth", ADDRESS), 4, "not both"),
        (POLL + annotations(SERVER, "noAuth", "gssapi", ADDRESS), 4, "not both"),
        (POLL + annotations(SERVER, "gssapi yes", ADDRESS), 3, "takes no value"),
        (POLL + annotations(SERVER, "secret x"), 3, "one of tls, ssl, noCertCheck, noAuth, gssapi, server"),
        (POLL + annotations(""), 2, "unknown key"),
        (POLL + annotations(SERVER, "tls secret"), 3, "#sendooway:tls takes no value"),
        (POLL + annotations(SERVER, "port"), 3, "needs a value"),
        (POLL + annotations(SERVER, "port secret"), 3, "65535"),
        (POLL + annotations(SERVER, 'port ""'), 3, "65535"),
        (POLL + annotations('pass "secret'), 2, "closing quote"),
        (POLL + annotations(SERVER, "passwordFrom secret", ADDRESS), 3, "file:PATH, command:WORD"),
        (POLL + annotations(SERVER, "passwordFrom credential:x", ADDRESS), 3, "mapping of the administrator"),
        (POLL + annotations(SERVER, "pass x", "passwordFrom file:/x", ADDRESS), 4, "not both"),
        (POLL + annotations('pass "'), 2, "closing quote"),
        (POLL + annotations("pass my secret"), 2, "double quotes"),
        (POLL + annotations("pass a\0secret"), 2, "NUL"),
        (POLL + annotations("user \x01secret"), 2, "user name"),
        (POLL + annotations("server secret/x"), 2, "host name"),
        (POLL + annotations(SERVER, SERVER), 3, "stands twice"),
        (POLL + annotations(SERVER, "tls", "ssl"), 4, "not both"),
        (POLL + annotations(SERVER, "address secret"), 3, "an address must read"),
        ("poll a user \\x01 pass secret\n" + annotations(SERVER, ADDRESS), 1, "user name"),
        ("poll a user b pass secret secret\n", 1, "`poll`"),
    ],
)
def test_an_error_names_the_line_and_what_would_be_right(text: str, line: int, reason: str) -> None:
    with pytest.raises(AccountsError, match=reason) as raised:
        parse(text, "rc")
    assert raised.value.origin == Origin("rc", line)
    assert "secret" not in str(raised.value)


_LINES = [
    POLL,
    "user bob\n",
    "poll b\n",
    "set syslog\n",
    *(annotations(one) for one in (SERVER, ADDRESS, "tls", "pass", 'user "')),
]


@given(
    st.one_of(
        st.binary().map(lambda octets: "#sendooway:" + octets.decode("utf-8", "surrogateescape") + "\n"),
        st.lists(st.sampled_from(_LINES)).map("".join),
    )
)
def test_any_text_gives_accounts_or_an_error(text: str) -> None:
    with suppress(AccountsError):
        parse(text, "rc")


@pytest.mark.parametrize(
    "text",
    [
        # Each of these once took, or would take with a careless pattern, time that grows with the square of its size.
        *(
            "\\\n" * 150000,
            " " * 300000,
            '"' * 300000,
            "'\"" * 150000,
            "poll a user b folder\n" + ("#x " * 1300 + "\n") * 60,
        ),
        # The last line may have no LF: then each # could begin a comment, until a line has its limit (`user_file`).
        "poll a user b folder " + "#x " * 1300,
        *(
            "poll a user b folder " + "\" '" * 100000,
            "poll a user b pass " + "\\x41" * 75000,
            "poll a port " + "9" * 300000,
        ),
        *("=" * 300000, POLL + annotations(SERVER, ADDRESS) * 6000),
    ],
    ids=range(11),
)
def test_a_long_text_takes_no_long_time(text: str) -> None:
    """A quarter of a megabyte; pytest would seem to hang here."""
    with suppress(AccountsError):
        parse(text, "rc")
