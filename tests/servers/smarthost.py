"""What the smarthosts of the interoperability matrix have in common: real servers that ask for STARTTLS and one login.

Each takes any sender from who has logged in, and passes every mail on to a Mailbox. It runs in a folder of its own, on
a port of 127.0.0.1, and does not touch an installed server of its kind.
"""

import subprocess
from abc import ABC, abstractmethod
from pathlib import Path

from servers.certificates import Certificate
from servers.mailbox import Delivery, Mailbox
from servers.processes import accepts, free_port, terminate, wait_until

USERNAME, PASSWORD = "smarthost-user", "smart-s3cret"
PATH = "/usr/sbin:/usr/bin:/sbin:/bin"


class Unavailable(Exception):
    """This server cannot be started here. The text says what is missing."""


class Smarthost(ABC):
    """`folder` must be empty, and reachable (mode 0755 all the way) for other users. `secure` is false for a server
    that can do neither TLS nor a login."""

    name: str
    secure = True
    mailbox: Mailbox

    def __init__(self, folder: Path, certificate: Certificate) -> None:
        self.folder = folder
        self.certificate = certificate
        self.port = free_port()

    def __str__(self) -> str:
        return self.name

    @property
    def mapping(self) -> str:
        """The line of sendooway.conf for senders of the domain NAME.test."""
        how = f"{USERNAME} {PASSWORD} tls" if self.secure else "- - noAuth"
        return f"smarthostMapping = direct:*@{self.name}.test localhost {self.port} {how}\n"

    def start(self) -> None:
        """Raises Unavailable."""
        self.mailbox = self.make_mailbox()
        self.mailbox.start()
        try:
            command = self.prepare()
        except Unavailable:
            self.mailbox.stop()
            raise
        with (self.folder / "output").open("wb") as output:
            self._process = subprocess.Popen(
                command,
                env={"PATH": PATH},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        wait_until(self._is_ready, f"{self.name} accepts (see {self.folder})")

    def stop(self) -> None:
        terminate(self._process)
        self.mailbox.stop()

    def make_mailbox(self) -> Mailbox:
        return Mailbox(None)

    @abstractmethod
    def prepare(self) -> list[str]:
        """Write the configuration; the command that serves in the foreground. Raises Unavailable."""

    def take(self, recipient: str) -> Delivery:
        """The one mail to `recipient`, waited for. The smarthost's Received field is in front."""
        return self.mailbox.take(recipient)

    def _is_ready(self) -> bool:
        assert self._process.poll() is None, f"{self.name} ended: {(self.folder / 'output').read_text()}"
        return accepts(self.port)
