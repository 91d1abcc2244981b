"""Passwords of accounts that stand somewhere else: what the smarthost hears, and what the client reads."""

import os
import pwd
import smtplib
from base64 import b64encode
from pathlib import Path

import pytest
from end_to_end.messages import HEADER
from servers.program import Connect, Start
from servers.scripted import Answer, ScriptedSmarthost, Stage

pytestmark = pytest.mark.slow

CONTENT = HEADER + b"Hello.\r\n"
ME = (pwd.getpwuid(os.geteuid()).pw_name, "not checked")


def configuration(source: str, *addresses: str, port: int) -> str:
    mappings = [f"direct:{address} localhost {port} alice - passwordFrom={source}" for address in addresses]
    return "authBackend = none\n" + "".join(f"smarthostMapping = {mapping}\n" for mapping in mappings)


def logins(smarthost: ScriptedSmarthost) -> list[bytes]:
    return [line for line in smarthost.commands if line.startswith(b"AUTH")]


def plain(password: str) -> bytes:
    return b"AUTH PLAIN " + b64encode(f"\0alice\0{password}".encode())


def test_a_token_that_has_been_rotated_works_with_the_same_mail(start: Start, connect: Connect, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("of-yesterday\n")
    answers: dict[Stage, list[Answer]] = {Stage.AUTH: [b"235 2.7.0 Welcome", b"535 5.7.8 Expired", b"235 2.7.0 Ok"]}
    with ScriptedSmarthost(answers=answers) as smarthost:
        # Two accounts at it, so that there is a login for each of them.
        source = f"command:cat {token}"
        sendooway = start(configuration(source, "alice@moon.test", "alice@sun.test", port=smarthost.port))
        client = connect(sendooway, ME)
        client.sendmail("alice@moon.test", ["bob@mars.test"], CONTENT)
        token.write_text("of-today\n")
        client.sendmail("alice@sun.test", ["bob@mars.test"], CONTENT)
        client.quit()
    assert logins(smarthost) == [plain("of-yesterday"), plain("of-yesterday"), plain("of-today")]
    assert len(smarthost.mails) == 2


def test_a_command_that_fails_is_told_in_its_own_words_and_no_password_is_said(
    start: Start, connect: Connect, tmp_path: Path
) -> None:
    program = tmp_path / "program"
    program.write_text(
        "#!/bin/sh\necho s3cret\nprintf 'gpg: decryption failed:\\nNo secret k\\303\\251y\\n' >&2\nexit 2\n"
    )
    program.chmod(0o700)
    with ScriptedSmarthost() as smarthost:
        sendooway = start(configuration(f"command:{program} --very-private", "*", port=smarthost.port))
        client = connect(sendooway, ME)
        with pytest.raises(smtplib.SMTPSenderRefused) as raised:
            client.sendmail("alice@moon.test", ["bob@mars.test"], CONTENT)
        client.quit()
    text = raised.value.smtp_error
    assert isinstance(text, bytes)
    words = b" ".join(text.split())
    assert raised.value.smtp_code == 454
    assert words.startswith(b"4.7.0 ")
    assert b"program ended with status 2: gpg: decryption failed:" in words
    assert text.isascii()
    assert logins(smarthost) == []
    for secret in ("s3cret", "very-private"):
        assert secret not in sendooway.log
        assert secret.encode() not in text
