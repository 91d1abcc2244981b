"""What the system is short of: room on the disk, descriptors. Mail goes on, or is told to come later; nothing spins."""

import ctypes
import os
import pwd
import resource
import select
import smtplib
import socket
import subprocess
import traceback
from contextlib import suppress
from pathlib import Path

import pytest
from end_to_end.conftest import is_served
from end_to_end.messages import HEADER
from servers.processes import PATIENCE, read_status, wait_until
from servers.program import Connect, Sendooway, Start, command
from servers.scripted import ScriptedSmarthost

pytestmark = pytest.mark.slow

CONTENT = HEADER + b"Hello.\r\n"
ME = (pwd.getpwuid(os.geteuid()).pw_name, "not checked")


def seconds_of_processor(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def send(port: int) -> None:
    with smtplib.SMTP("localhost", port, local_hostname="client.test", timeout=PATIENCE) as client:
        client.login(*ME)
        assert client.sendmail("alice@moon.test", ["bob@mars.test"], CONTENT) == {}


def test_a_log_that_takes_nothing_stops_no_mail(start: Start) -> None:
    with ScriptedSmarthost() as smarthost:
        text = f"authBackend = none\nsmarthostMapping = direct:* localhost {smarthost.port} - - noAuth\n"
        sendooway = start(text, "-l", "/dev/full")
        for _ in range(3):
            send(sendooway.port)
        assert [mail.complete for mail in smarthost.mails] == [True] * 3
        assert sendooway.log == ""


def on_a_disk_of(octets: int, folder: Path, configuration: str) -> list[str]:
    """What went wrong, in a process that alone sees the disk."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(0x20000):  # CLONE_NEWNS
        return ["may not unshare"]
    subprocess.run(["mount", "--make-rprivate", "/"], check=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={octets}", "tmpfs", folder], check=True)
    with ScriptedSmarthost() as smarthost, Sendooway(folder, configuration.format(port=smarthost.port)) as sendooway:
        send(sendooway.port)
        filler = folder / "filler"
        with suppress(OSError), filler.open("wb", buffering=0) as file:
            while True:
                file.write(b"x" * 4096)
        # The last page of the log has some room.
        for _ in range(30):
            send(sendooway.port)
        size = len(sendooway.log)
        send(sendooway.port)
        wrong = [] if len(sendooway.log) == size else ["the disk was not full"]
        filler.unlink()
        send(sendooway.port)
        sendooway.wait_for_log("lost=")
        if not all(mail.complete for mail in smarthost.mails) or len(smarthost.mails) != 33:
            wrong.append(f"mails: {smarthost.mails}")
    return wrong


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")
def test_a_full_disk_stops_no_mail_and_what_was_lost_is_counted(tmp_path: Path) -> None:
    text = "authBackend = none\nsmarthostMapping = direct:* localhost {port} - - noAuth\n"
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            wrong = "\n".join(on_a_disk_of(65536, tmp_path, text))
        except BaseException:
            wrong = traceback.format_exc()
        os.write(writing, wrong.encode()[:60000])
        os._exit(0)
    os.close(writing)
    with open(reading) as file:
        wrong = file.read()
    os.waitpid(pid, 0)
    if "may not unshare" in wrong or "mount" in wrong:
        pytest.skip(wrong)
    assert wrong == ""


def test_a_proxy_short_of_descriptors_answers_421_and_recovers(
    start: Start, connect: Connect, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "limited"
    program.write_text(f'#!/bin/sh\nulimit -n 40\nexec {" ".join(command())} "$@"\n')
    program.chmod(0o755)
    monkeypatch.setenv("SENDOOWAY_PROGRAM", str(program))
    sendooway = start("authBackend = none\nworkers = 1\n")
    served = connect(sendooway, ME)
    proxy = sendooway.only("proxy")
    clients, greetings = [], []
    for _ in range(60):
        clients.append(socket.create_connection(("localhost", sendooway.port), PATIENCE))
        greetings.append(clients[-1].recv(200)[:3])
    assert greetings[:5] == [b"220"] * 5
    assert greetings[-10:] == [b"421"] * 10
    # Whoever was there before is served, within what there is: a login needs a descriptor, too.
    assert served.noop()[0] == 250
    clients[0].sendall(b"EHLO client.test\r\nAUTH PLAIN AHgAeA==\r\n")
    octets = b""
    while b"421 4.3.0" not in octets:
        octets += clients[0].recv(4096)
        assert octets
    waiting = [socket.create_connection(("localhost", sendooway.port), PATIENCE) for _ in range(20)]
    before = seconds_of_processor(proxy)
    assert select.select([clients[1]], [], [], 2) == ([], [], [])
    assert seconds_of_processor(proxy) - before < 1
    for client in (*clients, *waiting):
        client.close()
    wait_until(lambda: is_served(sendooway, connect, ME), "service again")
    assert sendooway.only("proxy") == proxy
    sendooway.wait_for_log("accept-failed", "Too many open files")


def test_a_monitor_short_of_descriptors_ends_no_proxy_and_recovers(start: Start, connect: Connect) -> None:
    sendooway = start("authBackend = none\nworkers = 1\n")
    served = connect(sendooway, ME)
    proxy, monitor = sendooway.only("proxy"), sendooway.process.pid
    limits = resource.prlimit(monitor, resource.RLIMIT_NOFILE)
    for room in range(4):
        lowest_free = next(n for n in range(1000) if not os.path.lexists(f"/proc/{monitor}/fd/{n}"))
        resource.prlimit(monitor, resource.RLIMIT_NOFILE, (lowest_free + room, limits[1]))
        client = connect(sendooway)
        code = client.docmd("AUTH", "PLAIN AHgAeA==")[0]
        assert code == 421 if room < 2 else code in (421, 535)
        client.close()
        resource.prlimit(monitor, resource.RLIMIT_NOFILE, limits)
    assert "no-agent" in sendooway.log
    assert served.noop()[0] == 250
    assert is_served(sendooway, connect, ME)
    assert sendooway.only("proxy") == proxy
    assert read_status(monitor)
