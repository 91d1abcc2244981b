"""Who may log in, whatever the back end."""

import grp
import os
import pwd
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sendooway.auth import login, none
from sendooway.auth.identity import Identity, LoginError, Verdict
from sendooway.auth.login import AUTHENTICATORS, Authenticator, is_name, verify
from sendooway.config import Backend, Configuration, UserSettings, keywords
from sendooway.sasl import PasswordLogin
from sendooway.secret import Secret

ROOT = pwd.getpwnam("root")
DAEMON = pwd.getpwnam("daemon")
DEFAULTS = Configuration(UserSettings("host"))
DAEMON_GROUP = grp.getgrgid(DAEMON.pw_gid).gr_name


def identity_of(entry: pwd.struct_passwd) -> Identity:
    return Identity(entry.pw_name, entry.pw_uid, entry.pw_gid, entry.pw_dir)


def lenient(name: str, password: Secret, client: str) -> Identity:
    """A back end that knows every user, in any case of letters, by the same password."""
    assert client == "192.0.2.7"
    if password.octets != b"right":
        raise LoginError(Verdict.REFUSED, "credentials")
    return identity_of(pwd.getpwnam(name.lower()))


LENIENT = Authenticator(lambda: None, lambda: None, lenient)


def outcome(claim: PasswordLogin, valid_users: tuple[str, ...] = (), authenticator: Authenticator = LENIENT) -> str:
    try:
        return verify(claim, authenticator, valid_users, "192.0.2.7").name
    except LoginError as error:
        return error.reason if error.verdict is Verdict.REFUSED else error.verdict.value


@pytest.mark.parametrize(
    ("authcid", "authzid", "password", "expected"),
    [
        ("daemon", "", b"right", "daemon"),
        ("daemon", "daemon", b"right", "daemon"),
        ("DAEMON", "", b"right", "daemon"),
        ("DAEMON", "DAEMON", b"right", "daemon"),
        ("DAEMON", "daemon", b"right", "daemon"),
        ("daemon", "bin", b"right", "authorization-identity"),
        ("daemon", "root", b"right", "authorization-identity"),
        ("daemon", "DAEMON", b"right", "authorization-identity"),
        ("daemon", "root", b"wrong", "credentials"),
        ("root", "", b"right", "root"),
        ("root", "", b"wrong", "credentials"),
    ],
)
def test_a_user_acts_as_itself_and_root_never_logs_in(
    authcid: str, authzid: str, password: bytes, expected: str
) -> None:
    assert outcome(PasswordLogin(authcid, authzid, Secret(password))) == expected


@pytest.mark.parametrize(
    ("valid_users", "expected"),
    [
        ((), "daemon"),
        (("daemon",), "daemon"),
        (("bin", "daemon"), "daemon"),
        (("daemon", "bin"), "daemon"),
        (("bin",), "not-in-validUser"),
        (("Daemon",), "not-in-validUser"),
        ((f"%{DAEMON_GROUP}",), "daemon"),
        (("bin", f"%{DAEMON_GROUP}", "%bin"), "daemon"),
        (("%bin",), "not-in-validUser"),
        (("%no-such-group",), "not-in-validUser"),
        (("%no-such-group", "daemon"), "daemon"),
    ],
)
def test_every_entry_of_valid_user_counts(valid_users: tuple[str, ...], expected: str) -> None:
    assert outcome(PasswordLogin("daemon", "", Secret(b"right")), valid_users) == expected


def test_valid_user_is_asked_only_about_a_user_who_knows_the_password() -> None:
    assert outcome(PasswordLogin("daemon", "", Secret(b"wrong")), ("bin",)) == "credentials"


def test_a_user_without_a_home_folder_does_not_log_in() -> None:
    homeless = Authenticator(lambda: None, lambda: None, lambda *_: Identity("x", 1, 1, "relative"))
    assert outcome(PasswordLogin("x", "", Secret(b"")), (), homeless) == "no-home-folder"


@pytest.mark.parametrize(
    "name", ["alice", "a", "al.ice", "al-ice", "ALICE", "a b", "alice@moon.test", "älice", "x" * 256]
)
def test_these_may_be_names(name: str) -> None:
    assert is_name(name)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "-rf",
        ".",
        "..",
        ".alice",
        "../alice",
        "al/ice",
        "al\0ice",
        "alice\n",
        "al\x1bice",
        "al\x85ice",
        "al\u2028ice",
        "\udcff",
        "x" * 257,
    ],
)
def test_these_are_refused_before_any_back_end_hears_of_them(name: str) -> None:
    def asked(*_: object) -> Identity:
        raise AssertionError("asked")

    never = Authenticator(lambda: None, lambda: None, asked)
    assert outcome(PasswordLogin(name, "", Secret(b"right")), (), never) == "not-a-user-name"


@given(st.text())
def test_a_name_is_one_component_of_a_path(name: str) -> None:
    if is_name(name):
        assert os.path.join("/home", name, "x").split("/") == ["", "home", name, "x"]
        assert name not in (".", "..")
        name.encode()


def test_without_a_back_end_the_user_who_runs_the_process_logs_in_with_any_password() -> None:
    entry = pwd.getpwuid(os.getuid())
    anybody = AUTHENTICATORS[Backend.NONE](DEFAULTS)
    anybody.check()
    anybody.load()
    claim = PasswordLogin(entry.pw_name, "", Secret(b""))
    assert verify(claim, anybody, (), "local") == identity_of(entry)


def test_without_a_back_end_nobody_else_logs_in() -> None:
    other = "daemon" if os.getuid() == 0 else "root"
    with pytest.raises(LoginError) as caught:
        none.verify(other, Secret(b"x"), "local")
    assert caught.value.verdict is Verdict.REFUSED


def test_every_back_end_is_in_the_table() -> None:
    assert set(AUTHENTICATORS) == set(Backend)
    admit_root = {backend for backend in Backend if AUTHENTICATORS[backend](DEFAULTS).admits_root}
    assert admit_root == {Backend.NONE}


@pytest.mark.parametrize(
    ("configuration", "needed"),
    [
        ("", {Backend.PAM}),
        ("authBackend = none", {Backend.NONE}),
        ("authBackend = none\nkrb5PamAccount = yes", {Backend.NONE, Backend.PAM}),
        ("authBackend = LDAP\nldapUri = ldap://x\nldapAuthDN = uid=%u", {Backend.LDAP}),
        ("authMechanisms = GSSAPI", {Backend.PAM}),
        ("authMechanisms = GSSAPI\nauthBackend = none", set()),
        ("authMechanisms = GSSAPI\nkrb5PamAccount = no", set()),
        ("authMechanisms = PLAIN\nauthBackend = none\nkrb5PamAccount = yes", {Backend.NONE}),
    ],
)
def test_only_the_back_ends_that_are_asked_need_to_be_set_up(
    monkeypatch: pytest.MonkeyPatch, configuration: str, needed: set[Backend]
) -> None:
    checked: set[Backend] = set()
    loaded: set[Backend] = set()
    held: set[Backend] = set()

    def recorder(backend: Backend, configuration: Configuration) -> Authenticator:
        return Authenticator(
            partial(checked.add, backend), partial(loaded.add, backend), lenient, hold=partial(held.add, backend)
        )

    for backend in Backend:
        monkeypatch.setitem(AUTHENTICATORS, backend, partial(recorder, backend))
    parsed = keywords.parse(configuration, "conf", "host").configuration
    login.check(parsed)
    login.load(parsed)
    assert checked == loaded == held == needed
