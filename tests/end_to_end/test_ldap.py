"""Logging in with the password of a directory, on a machine whose own users know nothing of it."""

import os
import smtplib
from collections.abc import Iterator
from pathlib import Path

import pytest
from end_to_end.messages import HEADER
from servers import slapd as slapd_
from servers.certificates import Certificates
from servers.postfix import Postfix
from servers.program import Connect, Start
from servers.slapd import PEOPLE, Person, Slapd
from servers.users import User

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes another user"),
]

UID = 50042


@pytest.fixture
def erin(shared_folder: Path) -> Iterator[User]:
    """Somebody with a home here, and no entry in passwd(5)."""
    user = User("erin", "erin-secret", UID, UID, shared_folder / "erin")
    user.home.mkdir(mode=0o700)
    os.chown(user.home, UID, UID)
    yield user
    user.clear_home()
    user.home.rmdir()


@pytest.fixture
def directory(tmp_path: Path, erin: User, certificates: Certificates) -> Slapd:
    if reason := slapd_.why_not():
        pytest.skip(reason)
    folder = tmp_path / "slapd"
    folder.mkdir()
    attributes = slapd_.posix(homeDirectory=str(erin.home))
    return Slapd(folder, [Person(erin.name, erin.password, UID, attributes=attributes)], certificates.good)


def in_words(directory: Slapd) -> str:
    """Its URI with a name, which has to be resolved by a process without rights."""
    return f"ldaps://localhost:{directory.tls_port}"


def configuration(directory: Slapd, certificates: Certificates) -> str:
    return (
        "authBackend = LDAP\n"
        f"ldapUri = ldap://127.0.0.1:1 {in_words(directory)}\n"
        f"ldapAuthDN = uid=%u,{PEOPLE}\n"
        f"ldapSSLca = {certificates.authority}\n"
        "userInclude = %h/.sendoowayrc\n"
    )


def test_a_user_of_the_directory_sends_with_the_own_account(
    start: Start, connect: Connect, directory: Slapd, erin: User, postfix: Postfix, certificates: Certificates
) -> None:
    # What is in the home folder is read, and run, as the user.
    erin.write(".moon", "moon secret\n")
    command = 'sh -c \'test $(id -u) = 50042 -a "$PWD" = "$HOME" && cat .moon\''
    mapping = f"direct:alice@moon.test localhost {postfix.port} alice-moon - tls,passwordFrom=command:{command}"
    erin.write(".sendoowayrc", f"smarthostMapping = {mapping}\n")
    with directory:
        sendooway = start(configuration(directory, certificates))
        client = connect(sendooway, erin)
        (agent,) = sendooway.role("agent: erin")
        assert (agent.uids, agent.gids, agent.groups) == ((UID,) * 4, (UID,) * 4, (UID,))
        client.sendmail("alice@moon.test", ["ldap@mars.test"], HEADER + b"Hello.\r\n")
        client.quit()
        login, _ = postfix.take("ldap@mars.test")
        assert login == "alice-moon"
        sendooway.wait_for_log(" login rip=127.0.0.1 user=erin mech=PLAIN")
        assert "secret" not in sendooway.log


def test_a_wrong_password_is_535_and_a_directory_that_is_down_is_454(
    start: Start, connect: Connect, directory: Slapd, erin: User, certificates: Certificates
) -> None:
    sendooway = start(configuration(directory, certificates))

    def refusal(name: str, password: str) -> tuple[int, bytes]:
        with pytest.raises(smtplib.SMTPAuthenticationError) as raised:
            connect(sendooway).login(name, password)
        code, text = raised.value.smtp_code, raised.value.smtp_error
        assert isinstance(text, bytes)
        return code, text

    with directory:
        # A user of the machine is none of the directory's.
        refusals = {refusal("erin", "wrong"), refusal("daemon", "x")}
        assert {code for code, _ in refusals} == {535}
        assert len(refusals) == 1
        connect(sendooway, erin).quit()
    code, text = refusal("erin", erin.password)
    assert code == 454
    assert text.startswith(b"4.7.0")
    line = sendooway.wait_for_log("auth-failure", "Connection refused")
    assert in_words(directory) in line
