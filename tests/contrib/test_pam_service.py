"""The PAM service, with real users: whom it lets in."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from servers.program import ROOT
from servers.users import User

from sendooway.auth import pam
from sendooway.auth.identity import LoginError
from sendooway.secret import Secret

pytestmark = pytest.mark.slow

SERVICE = Path(pam.SERVICE_FILES[0])
TEXT = (ROOT / "contrib/pam/sendooway").read_text()


@pytest.fixture
def user(alice: User) -> Iterator[User]:
    """Somebody whom the service of contrib is to judge."""
    before = SERVICE.read_text()
    SERVICE.write_text(TEXT)
    try:
        yield alice
    finally:
        SERVICE.write_text(before)


def verify(user: User, password: str) -> str:
    """Empty if the user may log in, or the reason why not."""
    try:
        pam.verify(user.name, Secret(password.encode()), "192.0.2.7")
    except LoginError as error:
        return error.reason
    return ""


def usermod(user: User, *options: str) -> None:
    subprocess.run(["/usr/sbin/usermod", *options, user.name], check=True)


def test_the_right_password_lets_in_and_no_other(user: User) -> None:
    assert verify(user, user.password) == ""
    assert verify(user, "wrong") == "credentials"
    assert verify(user, "") == "empty-password"


def test_a_user_whose_shell_is_not_listed_is_refused(user: User) -> None:
    usermod(user, "--shell", "/usr/sbin/nologin")
    try:
        assert verify(user, user.password) != ""
    finally:
        usermod(user, "--shell", "/bin/sh")
    assert verify(user, user.password) == ""


def test_an_account_without_a_password_is_nobodys(user: User) -> None:
    shadow = Path("/etc/shadow")
    before = shadow.read_text()
    subprocess.run(["/usr/bin/passwd", "--quiet", "--delete", user.name], check=True)
    try:
        assert verify(user, "") != ""
        assert verify(user, "any") != ""
    finally:
        shadow.write_text(before)
    assert "nullok" not in "".join(line for line in TEXT.splitlines() if not line.startswith("#"))
