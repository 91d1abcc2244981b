"""`authBackend = LDAP`, against a real slapd, and with entries that it would not have."""

import os
import pwd
import re
import select
import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from servers.certificates import Certificates
from servers.processes import PATIENCE
from servers.slapd import ALICE, BASE, HIDDEN, ODD_NAMES, PEOPLE, REFUSED, UNREADABLE, USERS_GROUP, Person, Slapd

from sendooway.auth import ldap, login
from sendooway.auth.identity import AuthenticatorError, Identity, LoginError, Verdict
from sendooway.config import Backend, Configuration, UserSettings
from sendooway.sasl import PasswordLogin
from sendooway.secret import Secret
from sendooway.unix import kernel

SETTINGS = UserSettings("host")

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes the user of an entry")


@pytest.fixture(autouse=True, scope="module")
def loaded() -> None:
    """As the monitor does: a child without rights may find no modules any more."""
    ldap.load()


@pytest.fixture
def configuration(slapd: Slapd, certificates: Certificates) -> Configuration:
    return configure(certificates, slapd.tls_uri)


def configure(certificates: Certificates, *uris: str, folder: str = PEOPLE) -> Configuration:
    return Configuration(
        SETTINGS,
        auth_backend=Backend.LDAP,
        run_as="nobody",
        ldap_auth_dn=f"uid=%u,{folder}",
        ldap_uri=uris,
        ldap_ssl_ca=str(certificates.authority),
    )


def outcome(configuration: Configuration, name: str, password: str) -> Identity | tuple[Verdict, str]:
    try:
        return ldap.verify(configuration, name, Secret(password.encode()), "192.0.2.7")
    except LoginError as error:
        return error.verdict, error.reason


def identity_of(person: Person) -> Identity:
    return Identity(person.name, person.number, person.number, f"/home/{person.name}")


# What becomes of an entry


def test_an_entry_is_an_identity() -> None:
    entry = {"uid": ["alice"], "uidnumber": ["50001"], "gidnumber": ["100"], "homedirectory": ["/home/alice"]}
    assert ldap.to_identity("alice", entry) == Identity("alice", 50001, 100, "/home/alice")
    # It is the directory that says how a name is spelt.
    assert ldap.to_identity("ALICE", entry).name == "alice"
    assert ldap.to_identity("alice", entry | {"uid": ["Alice", "al", "alice"]}).name == "alice"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"uid": ["bob"]}, "the entry's uid is another one"),
        ({"uid": []}, "the entry has no uid"),
        ({"uidnumber": ["5001", "5002"]}, "more than one uidNumber"),
        ({"uidnumber": []}, "the entry has no uidNumber"),
        ({"uidnumber": "5001"}, "the entry has no uidNumber"),
        ({"uidnumber": [""]}, "uidNumber is no number"),
        ({"uidnumber": [" 5001"]}, "uidNumber is no number"),
        ({"uidnumber": ["\uff15\uff10\uff10\uff11"]}, "uidNumber is no number"),
        ({"uidnumber": ["5001.0"]}, "uidNumber is no number"),
        ({"uidnumber": ["00000005001"]}, "uidNumber is no number"),
        ({"uidnumber": ["2147483648"]}, "uidNumber 2147483648 is none of a person"),
        ({"uidnumber": ["100"]}, "uidNumber 100 is none of a person"),
        ({"gidnumber": ["65535"]}, "gidNumber 65535 is none of a person"),
        ({"homedirectory": [""]}, "homeDirectory is not an absolute path"),
        ({"homedirectory": ["/home/a\0b"]}, "homeDirectory is not an absolute path"),
        ({"homedirectory": ["/a", "/b"]}, "more than one homeDirectory"),
    ],
)
def test_an_entry_that_is_wrong_is_refused(change: dict[str, object], reason: str) -> None:
    entry = {"uid": ["alice"], "uidnumber": ["5001"], "gidnumber": ["5001"], "homedirectory": ["/home/alice"]}
    with pytest.raises(LoginError, match=reason) as raised:
        ldap.to_identity("alice", entry | change)
    assert raised.value.verdict is Verdict.REFUSED


@pytest.mark.parametrize(
    ("text", "least"),
    [("", 1000), ("UID_MIN 500\n", 500), ("#UID_MIN 5\nUID_MAX 7\nUID_MIN\t\t 2000 # x\n", 2000), ("UID_MIN 0\n", 1)],
)
def test_where_people_s_numbers_begin_is_the_system_s_decision(tmp_path: Path, text: str, least: int) -> None:
    path = tmp_path / "login.defs"
    path.write_text(text)
    assert ldap.least("UID_MIN", str(path)) == least
    assert ldap.least("UID_MIN", str(tmp_path / "none")) == 1000


@pytest.mark.parametrize(
    ("name", "dn"),
    [
        ("alice", "uid=alice,dc=moon"),
        ("al.i-c_e5", "uid=al.i-c_e5,dc=moon"),
        ("a,dc=x", "uid=a\\2cdc\\3dx,dc=moon"),
        ("%u\\", "uid=\\25u\\5c,dc=moon"),
        ("\u00e4", "uid=\\c3\\a4,dc=moon"),
    ],
)
def test_a_name_is_one_value_of_the_dn(name: str, dn: str) -> None:
    assert ldap.format_dn("uid=%u,dc=moon", name) == dn


@given(st.text(st.characters(codec="utf-8")))
def test_nothing_in_a_name_means_anything_in_a_dn(name: str) -> None:
    dn = ldap.format_dn("%%uid=%u", name)
    assert dn.startswith("%uid=")
    value = dn.removeprefix("%uid=")
    assert re.fullmatch(r"([A-Za-z0-9_.-]|\\[0-9a-f]{2})*", value)
    octets = re.sub(rb"\\(..)", lambda pair: bytes.fromhex(pair[1].decode()), value.encode())
    assert octets.decode() == name


# With a directory


@needs_root
@pytest.mark.slow
def test_the_right_password_gives_the_user_of_the_entry(configuration: Configuration) -> None:
    assert outcome(configuration, ALICE.name, ALICE.password) == identity_of(ALICE)
    assert outcome(configuration, "ALICE", ALICE.password) == identity_of(ALICE)


@pytest.mark.slow
def test_wrong_password_and_unknown_user_are_the_same(configuration: Configuration) -> None:
    refused = (Verdict.REFUSED, "credentials")
    for name, password in (
        (ALICE.name, "wrong"),
        (ALICE.name, ALICE.password.upper()),
        ("nobody-here", "x"),
        # Names that would be somebody, were they put into the DN as they are.
        (f"alice,{PEOPLE}", ALICE.password),
        ("*", ALICE.password),
        ("alic\\65", ALICE.password),
        (f"{UNREADABLE.name},ou=hidden,{BASE}", UNREADABLE.password),
    ):
        assert outcome(configuration, name, password) == refused, name


def test_an_empty_password_is_refused_before_anybody_hears_of_it(certificates: Certificates) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        configuration = configure(certificates, f"ldap://127.0.0.1:{listener.getsockname()[1]}")
        assert outcome(configuration, "alice", "") == (Verdict.REFUSED, "empty-password")
        listener.setblocking(False)
        with pytest.raises(BlockingIOError):
            listener.accept()


@needs_root
@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in ODD_NAMES if login.is_name(name)])
def test_a_name_with_signs_of_a_dn_is_itself(configuration: Configuration, name: str) -> None:
    identity = outcome(configuration, name, f"{name}-secret")
    assert isinstance(identity, Identity)
    assert (identity.name, identity.home) == (name, f"/home/{name}")


@needs_root
@pytest.mark.slow
@pytest.mark.parametrize("person", REFUSED, ids=lambda person: person.name)
def test_an_entry_that_is_nobody_s_is_refused(configuration: Configuration, person: Person) -> None:
    verdict, reason = outcome(configuration, person.name, person.password)  # type: ignore[misc]
    assert verdict is Verdict.REFUSED
    assert REFUSED[person] in reason


@needs_root
def test_who_has_the_number_of_a_local_user_is_refused() -> None:
    daemon = pwd.getpwnam("daemon")
    ldap.require_distinct(Identity("daemon", daemon.pw_uid, daemon.pw_gid, "/"))
    with pytest.raises(LoginError, match="has the uidNumber, with another name"):
        ldap.require_distinct(Identity("sendooway-nobody", daemon.pw_uid, daemon.pw_gid, "/"))


@pytest.mark.slow
def test_an_entry_that_cannot_be_read_is_the_administrator_s_business(slapd: Slapd, certificates: Certificates) -> None:
    configuration = configure(certificates, slapd.tls_uri, folder=HIDDEN)
    verdict, reason = outcome(configuration, UNREADABLE.name, UNREADABLE.password)  # type: ignore[misc]
    assert verdict is Verdict.LATER
    assert "may not read the own entry" in reason


@pytest.mark.slow
@pytest.mark.parametrize(
    ("valid_users", "expected"),
    [((), "carol"), (("%users",), "carol"), (("bob", "carol"), "carol"), (("bob", "%bin"), "not-in-validUser")],
)
@needs_root
def test_valid_user_counts(configuration: Configuration, valid_users: tuple[str, ...], expected: str) -> None:
    authenticator = login.AUTHENTICATORS[Backend.LDAP](configuration)
    claim = PasswordLogin(USERS_GROUP.name, "", Secret(USERS_GROUP.password.encode()))
    try:
        found = login.verify(claim, authenticator, valid_users, "192.0.2.7").name
    except LoginError as error:
        found = error.reason
    assert found == expected


# Servers that do not answer


@pytest.fixture
def down() -> str:
    """The URI of a server that is not there."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return f"ldap://127.0.0.1:{listener.getsockname()[1]}"


@pytest.fixture
def silent() -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"ldaps://127.0.0.1:{listener.getsockname()[1]}"


@needs_root
@pytest.mark.slow
def test_the_next_server_is_asked_where_one_does_not_answer(
    slapd: Slapd, certificates: Certificates, down: str, silent: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ldap, "SERVER_SECONDS", 2.0)
    configuration = configure(certificates, down, silent, slapd.tls_uri)
    assert outcome(configuration, ALICE.name, ALICE.password) == identity_of(ALICE)
    assert outcome(configuration, ALICE.name, "wrong") == (Verdict.REFUSED, "credentials")


@pytest.mark.slow
def test_a_server_that_says_no_has_the_last_word(slapd: Slapd, certificates: Certificates, down: str) -> None:
    configuration = configure(certificates, slapd.tls_uri, down)
    assert outcome(configuration, ALICE.name, "wrong") == (Verdict.REFUSED, "credentials")


def test_where_no_server_answers_the_login_is_for_later(
    certificates: Certificates, down: str, silent: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ldap, "SERVER_SECONDS", 0.3)
    assert outcome(configure(certificates, down, silent), "alice", "x") == (
        Verdict.LATER,
        f"{down}: Connection refused; {silent}: no answer within 0.3 seconds",
    )


def test_all_of_them_together_have_their_time(
    certificates: Certificates, silent: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ldap, "SECONDS", 0.3)
    verdict, reason = outcome(configure(certificates, silent, silent), "alice", "x")  # type: ignore[misc]
    assert verdict is Verdict.LATER
    assert reason.endswith("not asked, as the others took 0.3 seconds")


@pytest.mark.parametrize("act", [lambda *_: select.select([], [], []), lambda *_: os._exit(1), lambda *_: 5])
def test_a_child_that_says_nothing_of_use_is_ended(
    certificates: Certificates, down: str, monkeypatch: pytest.MonkeyPatch, act: object
) -> None:
    monkeypatch.setattr(ldap, "SECONDS", -0.5)
    monkeypatch.setattr(ldap, "_answer", act)
    reason = "the process that asks the LDAP servers ended, or took too long"
    with closing(kernel.Children()) as children:
        before = children.numbers()
        assert outcome(configure(certificates, down), "alice", "x") == (Verdict.LATER, reason)
        assert children.numbers() == before


def test_trusted_certificates_that_cannot_be_read_are_the_administrator_s_business(certificates: Certificates) -> None:
    configuration = Configuration(SETTINGS, ldap_auth_dn="uid=%u", ldap_uri=("ldaps://x",), ldap_ssl_ca="/nonexistent")
    verdict, reason = outcome(configuration, "alice", "x")  # type: ignore[misc]
    assert verdict is Verdict.LATER
    assert "/nonexistent" in reason


# Processes


@needs_root
def test_who_reads_from_the_network_has_no_rights(certificates: Certificates) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(PATIENCE)
        port = listener.getsockname()[1]
        pid = os.fork()
        if pid == 0:
            outcome(configure(certificates, f"ldap://127.0.0.1:{port}"), "alice", "x")
            os._exit(0)
        connection, peer = listener.accept()
        assert owner_of(peer[1], port) == pwd.getpwnam("nobody").pw_uid
        connection.close()
        os.waitpid(pid, 0)


def owner_of(port: int, other: int) -> int:
    """Whose the socket of a local port is that is connected to another one, by proc(5).

    Other programs may have the same port for other connections, or have had it.
    """
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if [int(field.partition(":")[2], 16) for field in fields[1:3]] == [port, other]:
            return int(fields[7])
    raise AssertionError(f"no socket has port {port}")


@needs_root
def test_without_a_user_for_the_network_there_is_no_login(certificates: Certificates) -> None:
    configuration = Configuration(SETTINGS, run_as="no-such-user", ldap_auth_dn="uid=%u", ldap_uri=("ldap://x",))
    with pytest.raises(AuthenticatorError, match="no-such-user"):
        ldap.check(configuration)
    verdict, reason = outcome(configuration, "alice", "x")  # type: ignore[misc]
    assert verdict is Verdict.LATER
    assert "no-such-user" in reason
