"""Where smarthosts deliver to: an LMTP server (RFC 2033) that keeps each mail octet for octet.

To those who greet it with EHLO it speaks SMTP, which differs in one thing: a message has one reply, not one a
recipient.
"""

import socketserver
import threading
from dataclasses import dataclass
from pathlib import Path

from servers.processes import wait_until


@dataclass(frozen=True)
class Delivery:
    """`content` is the message with CR LF line ends and without dot stuffing, as the last hop received it.

    `parameters` are the words behind MAIL and each RCPT.
    """

    sender: str
    recipients: tuple[str, ...]
    content: bytes
    parameters: tuple[str, ...] = ()


class Mailbox:
    """Listens from `start` to `stop` on a UNIX socket at `path`, or, where that is None, on 127.0.0.1:`port`."""

    def __init__(self, path: Path | None) -> None:
        self.deliveries: list[Delivery] = []
        self.port = 0
        self._server: _UnixServer | _TcpServer
        if path:
            self._server = _UnixServer(str(path), _Handler)
            path.chmod(0o666)
        else:
            self._server = _TcpServer(("127.0.0.1", 0), _Handler)
            self.port = self._server.server_address[1]
        self._server.mailbox = self
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def take(self, recipient: str) -> Delivery:
        """The only mail to `recipient`, waited for and removed."""
        wait_until(lambda: self._find(recipient), f"a delivery to {recipient}")
        (found,) = self._find(recipient)
        self.deliveries.remove(found)
        return found

    def _find(self, recipient: str) -> list[Delivery]:
        return [mail for mail in list(self.deliveries) if recipient in mail.recipients]


class _UnixServer(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True
    mailbox: Mailbox


class _TcpServer(socketserver.ThreadingTCPServer):
    daemon_threads = True
    mailbox: Mailbox


class _Handler(socketserver.StreamRequestHandler):
    server: _UnixServer | _TcpServer

    def handle(self) -> None:
        self._reply("220 mailbox.test LMTP")
        sender, recipients, greeting = "", list[str](), ""
        while line := self.rfile.readline():
            verb, _, argument = line.decode().strip().partition(" ")
            address, _, words = argument.partition("<")[2].partition(">")
            match verb.upper():
                case "LHLO" | "EHLO" as greeting:
                    self._reply("250-mailbox.test\r\n250-8BITMIME\r\n250-DSN\r\n250-SMTPUTF8\r\n250 PIPELINING")
                case "MAIL":
                    sender, recipients, parameters = address, [], words.split()
                    self._reply("250 2.1.0 OK")
                case "RCPT":
                    recipients.append(address)
                    parameters += words.split()
                    self._reply("250 2.1.5 OK")
                case "DATA":
                    self._reply("354 Go on")
                    content = self._receive_content()
                    delivery = Delivery(sender, tuple(recipients), content, tuple(parameters))
                    self.server.mailbox.deliveries.append(delivery)
                    for _ in recipients if greeting == "LHLO" else [""]:
                        self._reply("250 2.0.0 kept")
                case "QUIT":
                    self._reply("221 2.0.0 Bye")
                    return
                case _:
                    self._reply("250 2.0.0 OK")

    def _receive_content(self) -> bytes:
        lines = []
        while (line := self.rfile.readline()) != b".\r\n":
            if not line:
                raise ConnectionError("the smarthost went away inside a message")
            lines.append(line[1:] if line.startswith(b".") else line)
        return b"".join(lines)

    def _reply(self, text: str) -> None:
        self.wfile.write(text.encode() + b"\r\n")
