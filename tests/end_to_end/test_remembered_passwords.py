"""`authCache`: what PAM is asked, and what is remembered."""

import base64
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from servers.processes import wait_until
from servers.program import Connect, Sendooway, Start
from servers.users import PAM_SERVICE, User

from sendooway.auth.pam import SERVICE_FILES

pytestmark = pytest.mark.slow


class Pam:
    """The service, which writes down what it is asked."""

    def __init__(self, folder: Path) -> None:
        self._file = Path(SERVICE_FILES[0])
        self._before = self._file.read_text()
        self.asked_file = folder / "asked"
        script = folder / "note"
        script.write_text(f'#!/bin/sh\necho "$PAM_TYPE" >> {self.asked_file}\n')
        script.chmod(0o755)
        self._notes = [f"{kind} optional pam_exec.so quiet {script}\n" for kind in ("auth", "account")]
        self.write("")

    def write(self, more: str) -> None:
        auth, account = PAM_SERVICE.splitlines(keepends=True)
        self._file.write_text(self._notes[0] + auth + self._notes[1] + more + account)

    def asked(self) -> list[str]:
        """Since it was asked for the last time."""
        text = self.asked_file.read_text() if self.asked_file.exists() else ""
        self.asked_file.write_text("")
        return text.split()

    def restore(self) -> None:
        self._file.write_text(self._before)


@pytest.fixture
def pam(alice: User, tmp_path: Path) -> Iterator[Pam]:
    pam = Pam(tmp_path)
    yield pam
    pam.restore()


def log_in(connect: Connect, sendooway: Sendooway, user: User, password: str = "") -> bool:
    """With one AUTH: after a refusal, smtplib's own login would try another mechanism."""
    client = connect(sendooway)
    message = f"\0{user.name}\0{password or user.password}".encode()
    code, _ = client.docmd("AUTH", f"PLAIN {base64.b64encode(message).decode()}")
    client.quit()
    return code == 235


def test_pam_is_asked_each_time_unless_the_configuration_says_otherwise(
    start: Start, connect: Connect, alice: User, pam: Pam
) -> None:
    sendooway = start()
    for _ in range(2):
        assert log_in(connect, sendooway, alice)
        assert pam.asked() == ["auth", "account"]


def test_a_right_password_is_proved_once_and_the_account_is_asked_about_each_time(
    start: Start, connect: Connect, alice: User, bob: User, pam: Pam
) -> None:
    sendooway = start("authCache = 600\nworkers = 2")
    for asked in (["auth", "account"], ["account"], ["account"]):
        assert log_in(connect, sendooway, alice)
        assert pam.asked() == asked
    assert log_in(connect, sendooway, bob)
    assert pam.asked() == ["auth", "account"]
    pam.write("account required pam_deny.so\n")
    assert not log_in(connect, sendooway, alice)
    assert pam.asked() == ["account"]


def test_a_wrong_password_is_refused_and_lets_the_right_one_be_forgotten(
    start: Start, connect: Connect, alice: User, pam: Pam
) -> None:
    sendooway = start("authCache = 600")
    assert log_in(connect, sendooway, alice)
    assert not log_in(connect, sendooway, alice, "wrong")
    assert pam.asked() == ["auth", "account", "auth"]
    assert log_in(connect, sendooway, alice)
    assert pam.asked() == ["auth", "account"]


@pytest.mark.parametrize("event", ["reload", "time", "shadow"])
def test_nothing_is_remembered_for_ever(event: str, start: Start, connect: Connect, alice: User, pam: Pam) -> None:
    sendooway = start(f"authCache = {1 if event == 'time' else 600}")
    assert log_in(connect, sendooway, alice)
    pam.asked()
    match event:
        case "reload":
            sendooway.process.send_signal(signal.SIGHUP)
            sendooway.wait_for_log("reloaded")
        case "shadow":
            shadow = Path("/etc/shadow")
            shadow.write_text(shadow.read_text())

    def is_asked_again() -> bool:
        assert log_in(connect, sendooway, alice)
        return pam.asked() == ["auth", "account"]

    if event == "shadow":
        assert is_asked_again()
    else:  # the old proxy may still be the one that accepts
        wait_until(is_asked_again, "PAM is asked again")
