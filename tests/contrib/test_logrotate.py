"""logrotate, with our configuration, on the log of a server that works meanwhile."""

import base64
import gzip
import os
import pwd
import re
import shutil
import socket
import subprocess
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from servers.processes import wait_until
from servers.program import ROOT, Sendooway
from servers.scripted import ScriptedSmarthost

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root: logrotate gives the new file to root and the group adm"),
    pytest.mark.skipif(shutil.which("logrotate", path="/usr/sbin") is None, reason="needs logrotate"),
]

ME = pwd.getpwuid(os.geteuid()).pw_name
CONFIGURATION = ROOT / "contrib/logrotate/sendooway"


class Client:
    """One session, spoken by hand: any reply but the expected one is an error."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=60)
        self._replies = self._socket.makefile("rb")
        self.expect(b"220")
        self.say(b"AUTH PLAIN " + base64.b64encode(f"\0{ME}\0any".encode()), b"235")

    def say(self, line: bytes, code: bytes) -> None:
        self._socket.sendall(line + b"\r\n")
        self.expect(code)

    def expect(self, code: bytes) -> None:
        reply = self._replies.readline()
        assert reply.startswith(code), reply

    def send_mail(self, sender: str) -> None:
        self.say(f"MAIL FROM:<{sender}>".encode(), b"250")
        self.say(b"RCPT TO:<bob@mars.test>", b"250")
        self.say(b"DATA", b"354")
        self.say(b"Subject: x\r\n\r\nHello.\r\n.", b"250")

    def quit(self) -> None:
        self.say(b"QUIT", b"221")
        self._replies.close()
        self._socket.close()


class Traffic(threading.Thread):
    """Sessions with a mail each, one after the other, until told to stop."""

    def __init__(self, port: int, name: str) -> None:
        super().__init__()
        self._port = port
        self._name = name
        self._enough = threading.Event()
        self.sent: list[str] = []
        self.error: Exception | None = None

    def run(self) -> None:
        try:
            while not self._enough.is_set():
                client = Client(self._port)
                sender = f"{self._name}-{len(self.sent)}@moon.test"
                client.send_mail(sender)
                self.sent.append(sender)
                client.quit()
        except Exception as error:
            self.error = error

    def more(self) -> None:
        """Wait for some more sessions to be over."""
        wanted = len(self.sent) + 3
        wait_until(lambda: self.error or len(self.sent) >= wanted, f"more of {self._name}", 60)

    def stop(self) -> None:
        self._enough.set()
        self.join(60)


@contextmanager
def traffic(port: int, names: list[str]) -> Iterator[list[Traffic]]:
    threads = [Traffic(port, name) for name in names]
    for thread in threads:
        thread.start()
    try:
        yield threads
    finally:
        for thread in threads:
            thread.stop()
    assert [thread.error for thread in threads if thread.error] == []


class Rotation:
    """logrotate for one server; `systemctl` is one that knows it as sendooway.service."""

    def __init__(self, folder: Path, sendooway: Sendooway) -> None:
        self._folder = folder
        self._log = folder / "sendooway.log"
        self._sendooway = sendooway
        text = CONFIGURATION.read_text()
        (folder / "logrotate.conf").write_text(
            text.replace("/var/log/sendooway.log /var/log/sendooway/*.log", str(self._log), 1)
        )
        (folder / "logrotate.conf").chmod(0o644)
        systemctl = folder / "systemctl"
        systemctl.write_text(
            '#!/bin/sh\n[ "$*" = "kill --signal=HUP --kill-who=main sendooway.service" ] || exit 1\n'
            f"kill -HUP {sendooway.process.pid}\n"
        )
        systemctl.chmod(0o755)

    def rotate(self, event: str) -> None:
        """And wait for the event in the new file."""
        subprocess.run(
            ["/usr/sbin/logrotate", "--force", "--state", self._folder / "state", self._folder / "logrotate.conf"],
            check=True,
            env={"PATH": f"{self._folder}:/usr/sbin:/usr/bin:/bin"},
            timeout=120,
        )
        self._sendooway.wait_for_log(event)

    def files(self) -> dict[str, str]:
        """The texts of all files, by what stands behind the log's name."""
        return {
            path.name.removeprefix(self._log.name): (
                gzip.decompress(path.read_bytes()).decode() if path.suffix == ".gz" else path.read_text()
            )
            for path in self._folder.glob(f"{self._log.name}*")
        }


def test_logrotate_understands_every_word(tmp_path: Path) -> None:
    # It wants a file of root's own, which those of the sources need not be.
    path = shutil.copyfile(CONFIGURATION, tmp_path / "sendooway")
    done = subprocess.run(["/usr/sbin/logrotate", "--debug", path], capture_output=True, text=True, check=True)
    assert "error" not in done.stderr
    assert "/var/log/sendooway.log" in done.stderr


def test_no_line_and_no_session_is_lost(tmp_path: Path) -> None:
    with ScriptedSmarthost() as smarthost:
        account = f"smarthostMapping = direct:* localhost {smarthost.port} - - noAuth\n"
        with Sendooway(tmp_path, f"authBackend = none\nworkers = 1\n{account}") as sendooway:
            rotation = Rotation(tmp_path, sendooway)
            steady = Client(sendooway.port)
            with traffic(sendooway.port, ["a", "b"]) as threads:
                for thread in threads:
                    thread.more()
                rotation.rotate("reloaded")
                for thread in threads:
                    thread.more()
                # A session from before the rotation goes on, and what it does is logged in the old file.
                steady.send_mail("steady@moon.test")
                steady.quit()
                wait_until(lambda: len(sendooway.role("proxy")) == 1, "the end of the old proxy", 60)
                assert "steady@moon.test" in rotation.files()[".1"]
                rotation.rotate("reloaded")
                for thread in threads:
                    thread.more()
    files = rotation.files()
    assert sorted(files) == ["", ".1", ".2.gz"]
    senders = Counter(re.findall(r': mail .*sender="<(.*?)>"', "".join(files.values())))
    assert senders == Counter(["steady@moon.test", *(sender for thread in threads for sender in thread.sent)])
    # One more has connected than has logged in: that was to see whether the server accepts.
    for word, more in (("connect", 1), ("disconnect", 1), ("login", 0)):
        sessions = re.findall(rf": {word} .*session=(\w+)", "".join(files.values()))
        assert len(sessions) == len(set(sessions)) == len(smarthost.mails) + more
    status = (tmp_path / "sendooway.log").stat()
    assert status.st_mode & 0o777 == 0o640


def test_a_configuration_that_is_wrong_does_not_keep_the_log_from_being_rotated(tmp_path: Path) -> None:
    with Sendooway(tmp_path, "authBackend = none\nworkers = 1\n") as sendooway:
        rotation = Rotation(tmp_path, sendooway)
        sendooway.configure("authBackend = none\nworkers = 1\nspeed = 9\n")
        rotation.rotate("reload-refused")
        sendooway.wait_for_log("reloaded")
        wait_until(lambda: len(sendooway.role("proxy")) == 1, "the end of the old proxy", 60)
        Client(sendooway.port).quit()
        sendooway.wait_for_log("disconnect")
        assert " login " in rotation.files()[""]
        assert " login " not in rotation.files()[".1"]
