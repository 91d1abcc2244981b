"""Principals and local users, by libkrb5 and a krb5.conf of the test's own. No KDC is asked."""

import os
import pwd
from pathlib import Path

import pytest
from servers.users import User

from sendooway.auth import principal
from sendooway.auth.identity import Identity
from sendooway.auth.principal import PrincipalError, default_keytab, may_act_as, to_local

ME = pwd.getpwuid(os.getuid())
CONFIGURATION = """\
[libdefaults]
	default_realm = EXAMPLE.TEST
	default_keytab_name = FILE:/srv/other.keytab
[realms]
	EXAMPLE.TEST = {
		auth_to_local = RULE:[2:$1-$2](^.*-sender$)s/-sender//
		auth_to_local = RULE:[1:$1@$0](^.*@PARTNER.TEST$)s/@.*/-guest/
		auth_to_local = DEFAULT
		auth_to_local_names = {
			chief = root
		}
	}
"""


@pytest.fixture(autouse=True)
def configuration(shared_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    try:
        principal.check()
    except PrincipalError as error:
        pytest.skip(str(error))
    file = shared_folder / "krb5.conf"
    file.write_text(CONFIGURATION)
    monkeypatch.setenv("KRB5_CONFIG", str(file))
    return file


@pytest.mark.parametrize(
    ("name", "local"),
    [
        ("alice@EXAMPLE.TEST", "alice"),
        ("alice/sender@EXAMPLE.TEST", "alice"),
        ("carol@PARTNER.TEST", "carol-guest"),
        ("chief@EXAMPLE.TEST", "root"),
        ("alice/admin@EXAMPLE.TEST", None),
        ("host/mx@EXAMPLE.TEST", None),
        ("alice@FOREIGN.TEST", None),
        ("alice@example.test", None),
        ("al\\@ice@FOREIGN.TEST", None),
        ("WELLKNOWN/ANONYMOUS@WELLKNOWN:ANONYMOUS", None),
    ],
)
def test_a_principal_is_who_krb5_conf_says(name: str, local: str | None) -> None:
    assert to_local(name) == local


@pytest.mark.parametrize("name", ["a@b@c", "alice@EXAMPLE.TEST\\"])
def test_what_is_no_principal_is_an_error(name: str) -> None:
    with pytest.raises(PrincipalError, match="libkrb5: "):
        to_local(name)


def test_a_principal_without_a_name_is_nobody() -> None:
    assert to_local("") is None


def test_octets_that_are_not_utf_8_come_back_as_they_are() -> None:
    assert to_local("al\udcffice@EXAMPLE.TEST") == "al\udcffice"


def test_a_name_too_long_for_a_user_is_nobody() -> None:
    assert to_local(f"{'x' * 2000}@EXAMPLE.TEST") is None


def test_the_system_s_keytab_is_known() -> None:
    assert default_keytab() == "FILE:/srv/other.keytab"


def test_a_broken_configuration_is_an_error_that_names_it(configuration: Path) -> None:
    configuration.write_text("[libdefaults\n")
    with pytest.raises(PrincipalError, match=r"libkrb5: .*\(-1765328\d{3}\); is krb5\.conf right\?"):
        to_local("alice@EXAMPLE.TEST")


def test_without_libkrb5_there_is_an_error_that_names_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(principal, "LIBRARY", "libnonsense.so.3")
    with pytest.raises(PrincipalError, match=r"libkrb5 is missing \(Debian: libkrb5-3\)"):
        principal.check()


def test_one_s_own_principal_may_act_as_oneself() -> None:
    me = Identity(ME.pw_name, ME.pw_uid, ME.pw_gid, "/nonexistent")
    assert may_act_as(f"{ME.pw_name}@EXAMPLE.TEST", me)
    assert not may_act_as(f"{ME.pw_name}@FOREIGN.TEST", me)
    assert not may_act_as("somebody@EXAMPLE.TEST", me)


def identity(user: User) -> Identity:
    return Identity(user.name, user.uid, user.gid, str(user.home))


OWN = "sendooway-alice@EXAMPLE.TEST"


@pytest.mark.parametrize(
    ("lines", "name", "allowed"),
    [
        (None, OWN, True),
        (None, "sendooway-alice@FOREIGN.TEST", False),
        (None, "sendooway-bob@EXAMPLE.TEST", False),
        ("carol@FOREIGN.TEST\nsendooway-bob@EXAMPLE.TEST\n", "carol@FOREIGN.TEST", True),
        ("carol@FOREIGN.TEST\nsendooway-bob@EXAMPLE.TEST\n", "sendooway-bob@EXAMPLE.TEST", True),
        # Where there is the file, only its lines count.
        ("carol@FOREIGN.TEST\n", OWN, False),
        ("", OWN, False),
        (f"{OWN}\n", OWN, True),
    ],
)
@pytest.mark.slow
def test_k5login_decides_where_there_is_one(alice: User, lines: str | None, name: str, allowed: bool) -> None:
    if lines is not None:
        alice.write(".k5login", lines)
    assert may_act_as(name, identity(alice)) is allowed


@pytest.mark.slow
def test_a_k5login_of_somebody_else_s_does_not_count(alice: User, bob: User) -> None:
    file = alice.write(".k5login", "carol@FOREIGN.TEST\n", mode=0o644)
    os.chown(file, bob.uid, bob.gid)
    assert not may_act_as("carol@FOREIGN.TEST", identity(alice))


@pytest.mark.slow
def test_a_home_folder_that_the_user_cannot_search_hides_no_k5login(alice: User) -> None:
    alice.write(".k5login", "carol@FOREIGN.TEST\n")
    os.chown(alice.home, 0, 0)
    try:
        with pytest.raises(PrincipalError, match=r"cannot be searched for .k5login: Permission denied"):
            may_act_as(OWN, identity(alice))
    finally:
        os.chown(alice.home, alice.uid, alice.gid)


@pytest.mark.slow
def test_a_k5login_that_cannot_be_read_in_time_is_an_error(alice: User, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(alice.home / ".k5login")
    os.chown(alice.home / ".k5login", alice.uid, alice.gid)
    monkeypatch.setattr(principal, "READ_SECONDS", 0.1)
    with pytest.raises(PrincipalError, match=r"\.k5login cannot be read in time"):
        may_act_as(OWN, identity(alice))
