from contextlib import suppress
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sendooway.accounts import getmail
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

RETRIEVER = """\
[retriever]
type = SimplePOP3SSLRetriever
server = pop.moon.test
port = 995
username = alice
password = secret

[destination]
type = Maildir
path = ~/Maildir/
"""


def parse(text: str, file: str) -> tuple[Account | Unusable, ...]:
    """The accounts of the entries that have one."""
    return tuple(entry.account for entry in getmail.parse(text, file, ALICE).entries if entry.account)


def account(
    host: str = "mx.moon.test",
    port: int = 587,
    security: Security = Security.STARTTLS,
    username: str | None = "alice",
    password: bytes = b"secret",
    patterns: tuple[str, ...] = ("alice@moon.test",),
    check_certificate: bool = True,
    gssapi: bool = False,
) -> Account:
    credentials = None if username is None else Credentials(username, Secret(password))
    return Account(patterns, host, port, security, check_certificate, credentials, Origin("rc", 0), gssapi)


TLS = "[sender]\ntype = SimpleSMTPTLSSender\n"
MOON = "server = mx.moon.test\naddress = alice@moon.test\n"


@pytest.mark.parametrize(
    ("sender", "expected"),
    [
        (TLS + MOON, account()),
        (TLS + "address = alice@moon.test\n", account("pop.moon.test")),
        (TLS.replace("TLS", "SSL") + MOON, account(port=465, security=Security.SMTPS)),
        (TLS.replace("TLS", "") + MOON, account(port=25, security=Security.NONE)),
        (TLS + MOON + "port = 2525\n", account(port=2525)),
        (TLS + MOON + "Port: smtp\n", account(port=25)),
        (TLS + MOON + "username = bob\n", account(username="bob")),
        (TLS + MOON + "password = p = w: # ;\n", account(password=b"p = w: # ;")),
        (TLS + MOON + 'password = "quotes"\n', account(password=b'"quotes"')),
        (TLS + MOON + "password = %(here)s %%\n", account(password=b"%(here)s %%")),
        (TLS + MOON + "password =\n", account(password=b"")),
        (TLS + MOON + "password =\n  indented\n", account(password=b"indented")),
        (TLS + MOON + "password = \udce4\n", account(password=b"\xe4")),
        (TLS + MOON + "password = a\npassword_command = ('b',)\n", account(password=b"a")),
        (TLS + MOON + "no_certificate_check = Yes\n", account(check_certificate=False)),
        (TLS + MOON + "no_certificate_check = off\n", account()),
        (TLS + MOON + "something_else = yes\n", account()),
        (TLS + MOON + "gssapi = true\n", account(gssapi=True)),
        (TLS + MOON + "gssapi = 0\n", account()),
        (TLS + MOON + "gssapi = on\nusername =\n", account(username=None, gssapi=True)),
        (TLS + "server = m\naddress = *\n", account("m", patterns=("*",))),
        (
            TLS + MOON + "address = *@sun.test\nADDRESS = <>\n",
            account(patterns=("alice@moon.test", "*@sun.test", "<>")),
        ),
        (
            TLS + "server = mx.moon.test\naddress = a@moon.test, b@moon.test\n  c@moon.test,\n\n# no\n  d@moon.test\n",
            account(patterns=("a@moon.test", "b@moon.test", "c@moon.test", "d@moon.test")),
        ),
    ],
)
@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_a_sender_is_an_account(sender: str, expected: Account, line_end: str) -> None:
    for text in (sender + RETRIEVER, RETRIEVER + sender):
        assert parse(text.replace("\n", line_end), "rc") == (expected,)


def test_an_account_stands_where_its_section_begins() -> None:
    assert parse(RETRIEVER + TLS + MOON, "rc")[0].origin == Origin("rc", 11)


def test_with_tickets_no_credentials_are_needed() -> None:
    for more in ("", "username = alice\n", "password_command = ('pass',)\n"):
        assert parse(TLS + MOON + "gssapi = true\n" + more, "rc") == (account(username=None, gssapi=True),)


def test_an_empty_username_means_no_login() -> None:
    (found,) = parse(RETRIEVER + TLS + MOON + "username =\n", "rc")
    assert isinstance(found, Account)
    assert found.credentials is None


@pytest.mark.parametrize(
    "text", ["", "# nothing\n", RETRIEVER, RETRIEVER + "[Sender]\nx = y\n", "[DEFAULT]\n[DEFAULT]\n"]
)
def test_a_file_without_sender_has_no_account(text: str) -> None:
    assert parse(text, "rc") == ()


PASS = FromCommand(("pass", "moon"))


@pytest.mark.parametrize(
    ("text", "password"),
    [
        (TLS + MOON + "password_command = ('pass', 'moon')\n" + RETRIEVER, PASS),
        (TLS + MOON + "password_command =\n  ('pass',\n  'moon')\n" + RETRIEVER, PASS),
        (TLS + MOON + "[retriever]\nusername = alice\npassword_command = ('pass', 'moon')\n", PASS),
        (TLS + MOON + "password_from = command:pass moon\n" + RETRIEVER, PASS),
        (TLS + MOON + "password_from = file:~/moon # 1\n" + RETRIEVER, FromFile("~/moon # 1")),
        (TLS + MOON + "password_from = netrc:\n" + RETRIEVER, FromNetrc(("mx.moon.test",), "alice")),
    ],
)
def test_a_password_may_come_from_elsewhere(text: str, password: Password) -> None:
    (found,) = parse(text, "rc")
    assert isinstance(found, Account)
    assert found.credentials == Credentials("alice", password)


@pytest.mark.parametrize(
    ("text", "line", "reason"),
    [
        (TLS + MOON, 1, "no user name: add username to"),
        (TLS + MOON + "[retriever]\nusername =\n", 1, "no user name: add username to"),
        (TLS + MOON + "username = alice\n", 1, "no password: add password, password_from or"),
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
        ("[sender]\n" + MOON, 1, "needs type, one of SimpleSMTPSender"),
        ("[sender]\ntype = simplesmtpsender\n" + MOON, 2, "must be one of SimpleSMTPSender"),
        (TLS + "address = *\n", 1, "needs server"),
        (TLS + MOON.replace("mx.moon.test", "mx/moon"), 3, "host name"),
        (TLS + MOON.replace("mx.moon.test", ""), 3, "host name"),
        (TLS + MOON.replace("mx", "mx\n moon"), 4, "one line"),
        (TLS + MOON + "port = 99999\n", 5, "65535"),
        (TLS + MOON + "port =\n", 5, "65535"),
        (TLS + MOON + "no_certificate_check = maybe\n", 5, "1, yes, true, on"),
        (TLS + MOON + "gssapi = ifAdvertised\n", 5, "gssapi must be one of 1, yes, true, on"),
        (TLS + "server = mx\n", 1, "needs address"),
        (TLS + "server = mx\naddress =\n", 1, "needs address"),
        (TLS + MOON + "address = *,\n secret, b@c\n", 6, "an address must read"),
        (TLS + MOON + "username = \x01\n", 5, "user name"),
        (TLS + MOON + "username = a\npassword = a\0b\n", 6, "NUL"),
        (TLS + MOON + "username = a\npassword_command = pass moon\n", 6, "a command must read"),
        (TLS + MOON + "username = a\npassword_from = pass moon\n", 6, "file:PATH, command:WORD"),
        (TLS + MOON + "username = a\npassword_from = credential:moon\n", 6, "mapping of the administrator"),
        (TLS + MOON + "username = a\npassword_from = file:/x\npassword = b\n", 6, "one of password,"),
        (TLS + MOON + "server = other\n", 5, "twice"),
        ("[retriever]\nserver = a\nSERVER = b\n", 3, "twice"),
        ("[a]\n[b]\n[a]\n", 3, "section stands twice"),
        ("server = secret\n", 1, "a section must begin"),
        ("[a]\nsecret\n", 2, "`key = value`"),
        ("[a]\n= secret\n", 2, "`key = value`"),
        ("[]\n", 1, "a section must begin"),
        ("\ufeff[a]\n", 1, "a section must begin"),
    ],
)
def test_an_error_names_the_line_and_what_would_be_right(text: str, line: int, reason: str) -> None:
    with pytest.raises(AccountsError, match=reason) as raised:
        parse(text, "rc")
    assert raised.value.origin == Origin("rc", line)
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize("sender", ["", TLS + MOON])
def test_the_mailbox_is_listed_with_what_it_says_itself(sender: str) -> None:
    (entry,) = getmail.parse(RETRIEVER + sender, "rc", ALICE).entries
    secret = Secret(b"secret")
    assert entry.retriever == Retriever("pop.moon.test", None, "995", "POP3", True, "alice", secret, (), secret)
    assert (entry.origin.line, entry.patterns) == ((11, ("alice@moon.test",)) if sender else (1, ()))


@pytest.mark.parametrize(
    ("more", "source"),
    [
        ("", None),
        ("password_command = ('pass', 'show', 'x')\n", FromCommand(("pass", "show", "x"))),
        ("password_command = nonsense(\n", None),
        ("[options]\nuse_netrc = yes\n", FromNetrc(("pop.moon.test",), "alice")),
        ("[options]\nuse_netrc = yes\nnetrc_file = ~/x\n", FromNetrc(("pop.moon.test",), "alice", "~/x")),
        ("[options]\nuse_netrc = yes\nnetrc_file = $HOME/x\n", None),
        ("[options]\nuse_netrc = no\n", None),
    ],
)
def test_the_password_of_a_mailbox_comes_from_where_getmail_looks_for_it(more: str, source: Password | None) -> None:
    text = RETRIEVER.replace("password = secret\n", "", 1).replace("[destination]", more + "[destination]")
    (entry,) = getmail.parse(text, "rc", ALICE).entries
    assert entry.retriever
    assert entry.retriever.password_source == source
    if source:
        assert parse(text + TLS + MOON, "rc") == (replace(account(), credentials=Credentials("alice", source)),)


@pytest.mark.parametrize(
    ("type_", "protocol", "ssl"),
    [
        ("SimplePOP3Retriever", "POP3", False),
        ("BrokenUIDLPOP3SSLRetriever", "POP3", True),
        ("MultidropSDPSRetriever", "POP3", False),
        ("SimpleIMAPRetriever", "IMAP", False),
        ("MultidropIMAPSSLRetriever", "IMAP", True),
        ("Other", "", False),
    ],
)
def test_the_type_of_a_retriever_tells_its_protocol(type_: str, protocol: str, ssl: bool) -> None:
    (entry,) = getmail.parse(f"[retriever]\ntype = {type_}\n", "rc", ALICE).entries
    assert entry.retriever == Retriever("", None, None, protocol, ssl, None, None, ())


_PIECES = [
    "[sender]",
    "[retriever]",
    "type = SimpleSMTPSender",
    "server=a",
    "address=*",
    "  b@c",
    "username=",
    "\t",
    "=",
    "[",
]


@given(
    st.one_of(
        st.binary().map(lambda octets: octets.decode("utf-8", "surrogateescape")),
        st.lists(st.sampled_from(_PIECES)).map("\n".join),
    )
)
def test_any_text_gives_accounts_or_an_error(text: str) -> None:
    with suppress(AccountsError):
        assert len(parse(text, "rc")) <= 1
