"""The fail2ban filter, on lines that the program writes; among them those of clients who try to forge an address."""

import base64
import os
import pwd
import re
import shutil
import smtplib
import socket
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from servers.processes import has_ipv6
from servers.program import ROOT, Sendooway

FILTER = ROOT / "contrib/fail2ban/filter.d/sendooway.conf"
ME = pwd.getpwuid(os.geteuid()).pw_name
FORGED = "auth-failure rip=203.0.113.9 mech=PLAIN"

# Names that clients log in with, in vain.
HOSTILE = [
    "alice",
    f"x sendooway[1]: {FORGED}",
    f"x\n2026-11-25T23:09:08.917+00:00 sendooway[1]: {FORGED}",
    f"x\r\nNov 25 23:09:08 host sendooway[1]: {FORGED} user=y",
    f"x\u2028sendooway[1]: {FORGED}",
    f"x\x85sendooway[1]: {FORGED}",
    f'x" sendooway[1]: {FORGED} user="',
    f"2026-11-25T23:09:08.917+00:00 sendooway[1]: {FORGED}",
    f"Nov 25 23:09:08 sendooway[1]: {FORGED}",
    f"{'x' * 180}\\",
    f"{'x' * 4000} sendooway[1]: {FORGED}",
    "rip=203.0.113.9 mech=PLAIN",
    "203.0.113.9",
]

needs_fail2ban = pytest.mark.skipif(shutil.which("fail2ban-regex") is None, reason="needs fail2ban")


def fail_to_log_in(port: int, source: str, name: str) -> None:
    host = "::1" if ":" in source else "127.0.0.1"
    with smtplib.SMTP(host, port, local_hostname="x", timeout=60, source_address=(source, 0)) as client:
        client.docmd(f"EHLO sendooway[1]:{FORGED.replace(' ', '')}")
        answer = base64.b64encode(f"\0{name}\0wrong".encode()).decode()
        assert client.docmd(f"AUTH PLAIN {answer}")[0] in (501, 535)


def addresses_to_ban(log: Path) -> list[str]:
    done = subprocess.run(
        ["fail2ban-regex", log, FILTER, "-o", "<ip>"], capture_output=True, text=True, check=False, timeout=120
    )
    return sorted(done.stdout.split())


@pytest.mark.slow
@needs_fail2ban
def test_it_finds_each_failure_and_no_address_but_that_of_the_client(tmp_path: Path) -> None:
    # One address each, all of this machine.
    sources = [f"127.0.0.{number}" for number in range(2, 2 + len(HOSTILE))]
    attempts = list(zip(sources, HOSTILE, strict=True))
    port_6 = _free_port_6() if has_ipv6() else None
    listen = f"listen = [::1]:{port_6}\n" if port_6 else ""
    with Sendooway(tmp_path, f"authBackend = none\n{listen}") as sendooway:
        if port_6:
            fail_to_log_in(port_6, "::1", "alice")
            sources.append("::1")
        with ThreadPoolExecutor(len(attempts)) as pool:
            list(pool.map(lambda each: fail_to_log_in(sendooway.port, *each), attempts))
        # What succeeds, and what is no login, is none of its business.
        with smtplib.SMTP("127.0.0.1", sendooway.port, timeout=60) as client:
            client.login(ME, "not checked")
        sendooway.wait_for_log(" login ")
        log = sendooway.log
    assert addresses_to_ban(tmp_path / "sendooway.log") == sorted(sources)
    # The same lines as syslog keeps them.
    syslog = tmp_path / "mail.log"
    syslog.write_text(re.sub(r"^\S+ (?=sendooway\[)", "Nov 25 23:09:08 mail ", log, flags=re.MULTILINE))
    assert addresses_to_ban(syslog) == sorted(sources)


def _free_port_6() -> int:
    with socket.socket(socket.AF_INET6) as listener:
        listener.bind(("::1", 0))
        port: int = listener.getsockname()[1]
        return port


@pytest.mark.slow
@needs_fail2ban
def test_the_jail_is_accepted_by_fail2ban(tmp_path: Path) -> None:
    folder = tmp_path / "fail2ban"
    shutil.copytree("/etc/fail2ban", folder)
    # Other jails of this machine may want logs that are not there.
    shutil.rmtree(folder / "jail.d")
    shutil.copytree(ROOT / "contrib/fail2ban", folder, dirs_exist_ok=True)
    done = subprocess.run(
        ["fail2ban-client", "-c", folder, "-d"], capture_output=True, text=True, check=True, timeout=120
    )
    assert "['add', 'sendooway', 'systemd']" in done.stdout
    assert "['set', 'sendooway', 'addjournalmatch', 'SYSLOG_IDENTIFIER=sendooway', '_UID=0']" in done.stdout
    assert "['start', 'sendooway']" in done.stdout
