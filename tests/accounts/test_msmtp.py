from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sendooway.accounts import msmtp
from sendooway.accounts.account import (
    Account,
    AccountsError,
    Credentials,
    FromCommand,
    FromNetrc,
    Password,
    Security,
    Unusable,
)
from sendooway.auth.identity import Identity
from sendooway.origin import Origin
from sendooway.secret import Secret

ALICE = Identity("alice", 1000, 1000, "/home/alice")

MOON = "account moon\nhost mx.moon.test\nfrom alice@moon.test\n"
LOGIN = "auth on\ntls on\nuser alice\npassword secret\n"
SECRET = Secret(b"secret")
PIN = ":".join(["aB"] * 32)


def parse(text: str) -> tuple[Account | Unusable | None, ...]:
    return tuple(entry.account for entry in msmtp.parse(text, "rc", ALICE).entries)


def problems(text: str) -> list[str]:
    return [str(problem) for problem in msmtp.parse(text, "rc", ALICE).problems]


def account(
    host: str = "mx.moon.test",
    port: int = 25,
    security: Security = Security.STARTTLS,
    password: Password | None = SECRET,
    patterns: tuple[str, ...] = ("alice@moon.test",),
    check_certificate: bool = True,
    gssapi: bool = False,
    ca_file: str = "",
    certificate_sha256: bytes = b"",
    ehlo_name: str = "",
) -> Account:
    credentials = None if password is None else Credentials("alice", password)
    return Account(
        patterns,
        host,
        port,
        security,
        check_certificate,
        credentials,
        Origin("rc", 1),
        gssapi,
        ca_file,
        certificate_sha256,
        ehlo_name,
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (MOON, account(security=Security.NONE, password=None)),
        (MOON + LOGIN, account()),
        (MOON + LOGIN + "port 587\n", account(port=587)),
        (MOON + LOGIN + "tls_starttls off\n", account(port=465, security=Security.SMTPS)),
        (MOON + LOGIN + "auth off\n", account(password=None)),
        (MOON + LOGIN + "auth gssapi\n", account(password=None, gssapi=True)),
        (MOON + LOGIN + "tls off\nauth plain\n", account(security=Security.NONE)),
        (MOON + LOGIN + "tls_certcheck off\n", account(check_certificate=False)),
        (MOON + LOGIN + "tls_certcheck off\ntls_trust_file /x\n", account(check_certificate=False)),
        (MOON + LOGIN + f"tls_fingerprint {PIN}\n", account(certificate_sha256=b"\xab" * 32)),
        (MOON + LOGIN + f"tls_fingerprint {PIN}\ntls_trust_file /x\n", account(certificate_sha256=b"\xab" * 32)),
        (MOON + LOGIN + f"tls_fingerprint {PIN}\ntls_certcheck off\n", account(check_certificate=False)),
        (MOON + LOGIN + "tls_trust_file /etc/ssl/certs/ca-certificates.crt\n", account()),
        (MOON + LOGIN + "tls_trust_file ~/a b.pem\n", account(ca_file="/home/alice/a b.pem")),
        (MOON + "tls_trust_file /x\n", account(security=Security.NONE, password=None)),
        (MOON + LOGIN + "domain me.test\n", account(ehlo_name="me.test")),
        (MOON + LOGIN + "password\npasswordeval gpg -d ~/x | head -1\n",
         account(password=FromCommand(("/bin/sh", "-c", "gpg -d ~/x | head -1")))),
        (MOON + LOGIN + "passwordeval echo x\n", account()),
        (MOON + LOGIN + "password\n", account(password=FromNetrc(("mx.moon.test",), "alice"))),
        (MOON + LOGIN + "password ä \udcff\n", account(password=Secret(b"\xc3\xa4 \xff"))),
        (MOON + LOGIN + "from *@moon.test\n", account(patterns=("*@moon.test",))),
        (MOON + LOGIN + "from a@moon.test, b@moon.test,*@sun.test\n",
         account(patterns=("a@moon.test", "b@moon.test", "*@sun.test"))),
        (MOON + LOGIN + "from %U@moon.test\n", account()),
        (MOON + LOGIN + "from *\n", account(patterns=("*",))),
    ],
)  # fmt: skip
def test_an_account_with_a_sender_is_an_account(text: str, expected: Account) -> None:
    assert parse(text) == (expected,)
    assert problems(text) == []


def test_accounts_inherit_and_defaults_come_first() -> None:
    sun_text = "account sun : moon\nfrom a@sun.test\nhost mx.sun.test\naccount default : sun\n"
    text = f"defaults\n{LOGIN}port 587\n{MOON}{sun_text}"
    moon, sun = parse(text)
    assert moon == account(port=587)
    assert sun == account(host="mx.sun.test", port=587, patterns=("a@sun.test",))
    assert [entry.origin.line for entry in msmtp.parse(text, "rc", ALICE).entries] == [7, 10]


@pytest.mark.parametrize(
    ("more", "line", "reason"),
    [
        ("host mx/moon\n", 8, "`host`: the server must be a host name"),
        ("user\n", 8, "`user` is missing"),
        ("user \x01\n", 8, "`user`: the user name"),
        ("password a\0b\n", 8, "`password`: the password must have no NUL"),
        ("tls off\n", 4, "without TLS msmtp tells no password"),
        ("auth xoauth2\n", 8, "`auth xoauth2` is not done"),
        ("auth external\n", 8, "`auth external` is not done"),
        ("protocol lmtp\n", 8, "only SMTP"),
        ("socket /x\n", 8, "`socket` is not done here"),
        ("proxy_host 127.0.0.1\n", 8, "`proxy_host` is not done here"),
        ("tls_host_override x\n", 8, "`tls_host_override` is not done here"),
        ("eval echo port 5\n", 8, "`eval` is not done here"),
        ("tls_trust_file x\n", 8, "`tls_trust_file`: the path must be absolute"),
        ("tls_trust_file\n", 8, "`tls_trust_file`: without it msmtp trusts nobody"),
        (f"tls_fingerprint {PIN[:59]}\n", 8, "`tls_fingerprint` must be a SHA-256 one"),
        ("domain a b\n", 8, "`domain` must be a host name"),
        ("domain %H\n", 8, "`domain` must be a host name"),
    ],
)
def test_what_cannot_be_done_as_the_account_says_makes_it_unusable(more: str, line: int, reason: str) -> None:
    (found,) = parse(MOON + LOGIN + more)
    assert isinstance(found, Unusable)
    assert reason in found.reason
    assert found.origin == Origin("rc", line)
    assert found.patterns == ("alice@moon.test",)


def test_senders_whom_another_wildcard_may_mean_are_refused() -> None:
    served, refused, other = parse(
        MOON + LOGIN + "from a*@moon.test,b@moon.test,[x]@*.test\naccount c\nhost h\nfrom *\n"
    )
    assert served == account(patterns=("b@moon.test",))
    assert isinstance(refused, Unusable)
    assert refused.patterns == ("*@moon.test",)
    assert refused.reason.startswith("the account moon may serve this sender")
    assert other is not None
    assert other.patterns == ("*",)


def test_an_account_without_a_host_is_unusable() -> None:
    (found,) = parse("account moon\nfrom alice@moon.test\n")
    assert isinstance(found, Unusable)
    assert (found.origin, found.reason) == (Origin("rc", 1), "`host` is missing")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("account a\nhost h\n", ["rc:1: the account a serves no sender: give it a `from`, which may be *@domain or *"]),
        (MOON + "from secret\n", ["rc:4: `from`: an address must read user@domain"]),
        (MOON + "from a*@moon.test,x@*.test\n", ["rc:4: `from`: an address must read user@domain"]),
        (MOON + "from %H\n", ["rc:4: `from`: an address must read"]),
        (MOON + "aliases ~/x\n", ["rc:4: `aliases`: recipients are taken as the mail program gives them"]),
        (MOON + "aliases\ntls_key_file\ndsn_notify off\nauto_from off\n", []),
        (MOON + "account b : moon\naliases ~/x\naccount c : b\nsyslog on\n", ["rc:5: `aliases`: recipients"]),
        (MOON + "tls_crl_file ~/x\ntls_key_file ~/y\nsource_ip ::1\ntls_priorities x\ndsn_return full\n",
         ["rc:4: `tls_crl_file`", "rc:5: `tls_key_file`", "rc:6: `source_ip`", "rc:7: `tls_pri", "rc:8: `dsn_return`"]),
    ],
)  # fmt: skip
def test_what_is_not_done_is_said_once(text: str, expected: list[str]) -> None:
    found = problems(text)
    assert len(found) == len(expected)
    for problem, beginning in zip(found, expected, strict=True):
        assert problem.startswith(beginning)
    assert "secret" not in "".join(found)


@given(
    st.one_of(
        st.binary().map(lambda octets: octets.decode("utf-8", "surrogateescape")),
        st.lists(st.sampled_from([MOON.replace("moon", "a", 1), *MOON.splitlines(True), *LOGIN.splitlines(True)])).map(
            "".join
        ),
    )
)
def test_any_text_gives_accounts_or_an_error(text: str) -> None:
    with suppress(AccountsError):
        msmtp.parse(text, "rc", ALICE)
