"""Processes that are killed while a mail is under way.

Nobody is told a lie, nothing is completed that the client did not complete, and the next client is served at once.
"""

import base64
import contextlib
import os
import pwd
import signal
import smtplib
import threading
from pathlib import Path

import pytest
from end_to_end.conftest import is_served
from end_to_end.messages import HEADER
from servers.processes import PATIENCE, accepts, wait_until, wait_until_gone
from servers.program import Connect, Start
from servers.scripted import Answer, Fault, ScriptedSmarthost, Stage

pytestmark = pytest.mark.slow

CONTENT = HEADER + b"Hello.\r\n"
ME = (pwd.getpwuid(os.geteuid()).pw_name, "not checked")
PLAIN = base64.b64encode(f"\0{ME[0]}\0{ME[1]}".encode())
CONFIGURATION = "authBackend = none\nworkers = 1\nsmarthostMapping = direct:* localhost {port} - - noAuth\n"

MOMENTS = ("connected", "challenged", "logged in", "MAIL", "RCPT", "DATA", "body", "dot")


class Client:
    """Goes through a mail step by step. `code` is the last reply's, 0 once the connection is lost."""

    def __init__(self, smtp: smtplib.SMTP) -> None:
        self.smtp = smtp
        self.code = 220

    def _ask(self, octets: bytes, *, answered: bool = True) -> None:
        if self.code in (0, 421):
            return
        try:
            self.smtp.send(octets)
            if answered:
                self.code = self.smtp.getreply()[0]
        except (OSError, smtplib.SMTPException):
            self.code = 0

    def do(self, moment: str) -> None:
        match moment:
            case "connected":
                pass
            case "challenged":
                self._ask(b"AUTH PLAIN\r\n")
            case "logged in":
                self._ask(PLAIN + b"\r\n")
            case "MAIL":
                self._ask(b"MAIL FROM:<alice@moon.test>\r\n")
            case "RCPT":
                self._ask(b"RCPT TO:<bob@mars.test>\r\n")
            case "DATA":
                self._ask(b"DATA\r\n")
            case "body":
                self._ask(CONTENT, answered=False)
            case "dot":
                self._ask(b".\r\n", answered=False)

    def verdict(self) -> int:
        self._ask(b"")
        return self.code


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("role", ["agent", "proxy", "monitor"])
def test_a_process_that_is_killed_in_the_middle_of_a_mail(
    role: str, moment: str, start: Start, connect: Connect
) -> None:
    if role == "agent" and moment == "connected":
        pytest.skip("there is none before AUTH")
    number = MOMENTS.index(moment)
    answers: dict[Stage, list[Answer]] = {Stage.DOT: [Fault.HANG]} if moment == "dot" else {}
    with ScriptedSmarthost(answers=answers) as smarthost:
        hurry = "timeout = 2\n" if moment == "dot" else ""
        sendooway = start(CONFIGURATION.format(port=smarthost.port) + hurry)
        client = Client(connect(sendooway))
        for step in MOMENTS[: number + 1]:
            client.do(step)
        if moment == "dot":
            wait_until(lambda: smarthost.mails and smarthost.mails[0].complete, "the final dot")
        (victim, *_) = sendooway.role(role)
        others = {status.pid for name in ("proxy", "monitor") for status in sendooway.role(name)} - {victim.pid}
        if role == "monitor":
            sendooway.expected_status = -signal.SIGKILL
        os.kill(victim.pid, signal.SIGKILL)
        # Another client, before this one goes on.
        if role == "monitor":
            wait_until(lambda: not accepts(sendooway.port), "the end of listening")
        else:
            wait_until(lambda: is_served(sendooway, connect, ME), "service again")
            assert others <= {status.pid for name in ("proxy", "monitor") for status in sendooway.role(name)}
        for step in MOMENTS[number + 1 :]:
            client.do(step)
        verdict = client.verdict()
        completed = [mail.complete for mail in smarthost.mails]
        told = verdict == 250
        # Sent, delivered, told: none without the one before.
        assert completed in ([], [False], [True])
        assert not told or completed == [True]
        match role:
            case "proxy":
                assert verdict == 0
                assert (completed == [True]) == (moment == "dot")
            # Who has not logged in yet has to come again.
            case "agent" if number < MOMENTS.index("logged in"):
                assert verdict == 421
            # The monitor's agents end with it: a mail that has begun needs none.
            case "monitor" if number <= MOMENTS.index("logged in"):
                assert verdict == 421
            case _ if moment == "dot":
                assert verdict == 451
            case _:
                assert told
        client.smtp.close()


def test_after_the_death_of_all_a_new_server_serves_at_once(start: Start, connect: Connect, tmp_path: Path) -> None:
    sendooway = start("authBackend = none\n")
    sendooway.expected_status = -signal.SIGKILL
    connect(sendooway, ME)
    everyone = sendooway.processes()
    for pid in everyone:
        with contextlib.suppress(ProcessLookupError):  # it has ended with its parent
            os.kill(pid, signal.SIGKILL)
    sendooway.process.wait()
    wait_until_gone(everyone)
    again = start("authBackend = none\n", port=sendooway.port)
    wait_until(lambda: is_served(again, connect, ME), "service again")


def test_proxies_killed_at_random_moments_lose_and_invent_nothing(start: Start) -> None:
    with ScriptedSmarthost() as smarthost:
        sendooway = start(CONFIGURATION.format(port=smarthost.port))
        told: set[int] = set()
        finished: set[int] = set()
        over = threading.Event()

        def send(first: int) -> None:
            number = first
            while not over.is_set():
                number += 10
                try:
                    with smtplib.SMTP(
                        "localhost", sendooway.port, local_hostname="client.test", timeout=PATIENCE
                    ) as client:
                        client.login(*ME)
                        client.mail("alice@moon.test")
                        client.rcpt(f"{number}@mars.test")
                        if client.docmd("DATA")[0] != 354:
                            continue
                        client.send(CONTENT * 100)
                        finished.add(number)
                        client.send(b".\r\n")
                        if client.getreply()[0] == 250:
                            told.add(number)
                except (OSError, smtplib.SMTPException):
                    over.wait(0.01)

        threads = [threading.Thread(target=send, args=(first,)) for first in range(3)]
        for thread in threads:
            thread.start()
        for pause in (0.1, 0.23, 0.37, 0.05):
            wait_until(lambda: sendooway.role("proxy"), "a proxy")
            before = len(told)
            wait_until(lambda: len(told) > before, "mails again")  # noqa: B023
            over.wait(pause)
            os.kill(sendooway.role("proxy")[0].pid, signal.SIGKILL)
        over.set()
        for thread in threads:
            thread.join(PATIENCE)
    delivered = [int(mail.recipients[0].partition(b"@")[0]) for mail in smarthost.mails if mail.complete]
    assert len(delivered) == len(set(delivered))
    assert told <= set(delivered) <= finished
    assert all(mail.data.endswith(b"Hello.\r\n.\r\n") for mail in smarthost.mails if mail.complete)
