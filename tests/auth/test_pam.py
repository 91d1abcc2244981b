"""Real libpam, real users."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from servers.processes import PATIENCE
from servers.users import User

from sendooway.auth import pam
from sendooway.auth.identity import AuthenticatorError, LoginError, Verdict
from sendooway.secret import Secret

SERVICE = Path(pam.SERVICE_FILES[0])


def refused(name: str, password: bytes, client: str = "192.0.2.7") -> tuple[Verdict, str]:
    with pytest.raises(LoginError) as caught:
        pam.verify(name, Secret(password), client)
    return caught.value.verdict, caught.value.reason


@pytest.fixture
def service(alice: User) -> Iterator[Path]:
    """The service's file, to be changed by one test."""
    before = SERVICE.read_text()
    yield SERVICE
    SERVICE.write_text(before)


def test_a_service_that_is_not_defined_is_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(pam, "SERVICE_FILES", (str(tmp_path / "absent"),))
    with pytest.raises(AuthenticatorError, match="authBackend = none"):
        pam.check()
    (tmp_path / "there").touch()
    monkeypatch.setattr(pam, "SERVICE_FILES", (str(tmp_path / "absent"), str(tmp_path / "there")))
    pam.check()


@pytest.mark.parametrize(("password", "reason"), [(b"", "empty-password"), (b"x\0y", "credentials")])
def test_passwords_that_pam_must_not_see_are_refused(password: bytes, reason: str) -> None:
    assert refused("root", password) == (Verdict.REFUSED, reason)


@pytest.mark.slow
def test_a_user_logs_in_with_the_password_and_with_no_other(alice: User, bob: User) -> None:
    pam.check()
    pam.load()
    identity = pam.verify(alice.name, Secret(alice.password.encode()), "192.0.2.7")
    assert (identity.name, identity.uid, identity.gid) == (alice.name, alice.uid, alice.gid)
    assert identity.home == str(alice.home)
    for password in (bob.password, alice.password[:-1], alice.password + "x", alice.password.lower() + "X"):
        assert refused(alice.name, password.encode()) == (Verdict.REFUSED, "credentials")


@pytest.mark.slow
def test_neither_pam_nor_we_tell_by_waiting(service: Path, alice: User) -> None:
    # A module would let us wait for ten minutes, more or less (pam_fail_delay(3)).
    service.write_text(
        "auth optional pam_faildelay.so delay=600000000\nauth required pam_unix.so\naccount required pam_unix.so\n"
    )
    begin = time.monotonic()
    assert refused(alice.name, b"wrong") == (Verdict.REFUSED, "credentials")
    assert refused("no-such-user", b"wrong")[0] is Verdict.REFUSED
    assert time.monotonic() - begin < PATIENCE


@pytest.mark.slow
@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ("auth required pam_permit.so\naccount required pam_deny.so\n", (Verdict.REFUSED, "credentials")),
        ("auth required pam_deny.so\naccount required pam_permit.so\n", (Verdict.REFUSED, "credentials")),
        ("auth required pam_no_such_module.so\n", (Verdict.LATER, None)),
    ],
)
def test_authentication_and_account_management_both_have_to_agree(
    service: Path, alice: User, lines: str, expected: tuple[Verdict, str | None]
) -> None:
    service.write_text(lines)
    verdict, reason = refused(alice.name, alice.password.encode())
    assert verdict is expected[0]
    assert reason.startswith("PAM: ") if expected[1] is None else reason != ""


@pytest.mark.slow
def test_an_expired_account_is_refused(alice: User) -> None:
    subprocess.run(["/usr/sbin/usermod", "--expiredate", "1", alice.name], check=True)
    try:
        assert refused(alice.name, alice.password.encode()) == (Verdict.REFUSED, "account-expired")
    finally:
        subprocess.run(["/usr/sbin/usermod", "--expiredate", "", alice.name], check=True)


@pytest.mark.slow
def test_pam_knows_the_address_of_the_client(service: Path, alice: User, shared_folder: Path) -> None:
    seen = shared_folder / "rhost"
    script = shared_folder / "tell-rhost"
    script.write_text(f'#!/bin/sh\nprintf "%s %s %s" "$PAM_RHOST" "$PAM_USER" "$PAM_TTY" > {seen}\n')
    script.chmod(0o755)
    service.write_text(f"auth required pam_exec.so quiet {script}\naccount required pam_permit.so\n")
    os.environ["DISPLAY"] = ":7"
    pam.load()
    assert pam.verify(alice.name, Secret(b"any"), "2001:db8::7").name == alice.name
    assert seen.read_text() == f"2001:db8::7 {alice.name} "


# Says which modules of PAM are loaded: before `hold`, after it, and after it once more with other words in the service.
HOLD = """
import re
import sys
from pathlib import Path
from sendooway.auth import pam

def loaded():
    return set(re.findall("pam_(?:rootok|warn)", Path("/proc/self/maps").read_text()))

pam.load()
print(*loaded())
pam.hold()
print(*loaded())
Path(sys.argv[1]).write_text("auth required pam_warn.so\\n")
pam.hold()
print(*loaded())
"""


@pytest.mark.slow
def test_the_modules_of_the_service_can_be_held_for_all_logins(service: Path) -> None:
    service.write_text("auth required pam_rootok.so\n")
    done = subprocess.run([sys.executable, "-c", HOLD, str(service)], capture_output=True, text=True, check=True)
    assert done.stdout == "\npam_rootok\npam_warn\n"


@pytest.mark.slow
def test_what_is_held_decides_nothing(service: Path, alice: User) -> None:
    service.write_text("auth required pam_permit.so\naccount required pam_permit.so\n")
    pam.load()
    pam.hold()
    assert pam.verify(alice.name, Secret(b"any"), "192.0.2.7").name == alice.name
    service.write_text("auth required pam_deny.so\naccount required pam_permit.so\n")
    assert refused(alice.name, b"any") == (Verdict.REFUSED, "credentials")


@pytest.mark.slow
def test_modules_that_are_missing_can_be_held_and_the_login_tells(service: Path, alice: User) -> None:
    service.write_text("auth required pam_no_such_module.so\n")
    pam.load()
    pam.hold()
    assert refused(alice.name, b"any")[0] is Verdict.LATER


@pytest.mark.slow
def test_a_user_whom_only_pam_knows_is_refused(service: Path) -> None:
    service.write_text("auth required pam_permit.so\naccount required pam_permit.so\n")
    assert refused("no-such-user", b"any") == (Verdict.REFUSED, "no-local-account")
