"""A smarthost that forgets each message once it has told its digest. It runs as a process of its own."""

import hashlib
import multiprocessing
import socketserver
import ssl
import threading
import time
from multiprocessing.connection import Connection
from multiprocessing.sharedctypes import Synchronized

from servers.certificates import Certificate

USERNAME, PASSWORD = "smarthost-user", "smart-s3cret"
START = b"Subject: bench\r\n"  # of a message: what stands before has been put there on the way
_END = b"\r\n.\r\n"
_PIECE = 1 << 18


class Smarthost:
    """Inside a `with` it listens on 127.0.0.1:`port`."""

    def __init__(self, certificate: Certificate) -> None:
        context = multiprocessing.get_context("fork")
        self._delay = context.Value("d", 0.0)
        self._digests, told = context.Pipe(duplex=False)
        self._taking = threading.Lock()
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(certificate.certificate, certificate.key)
        server = _Server(tls, self._delay, told)
        self.port: int = server.server_address[1]
        self._process = context.Process(target=server.serve_forever, daemon=True)
        self._process.start()
        server.server_close()

    def __enter__(self) -> "Smarthost":
        return self

    def __exit__(self, *exception: object) -> None:
        self._process.terminate()
        self._process.join()

    def move_away(self, seconds: float) -> None:
        """Wait so long before each reply, as if it were so far away."""
        self._delay.value = seconds

    def take(self) -> bytes:
        """The digest of the message that came first of those not yet taken."""
        with self._taking:
            assert self._digests.poll(60), "no message has arrived at the smarthost"
            return self._digests.recv_bytes()


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 100

    def __init__(self, tls: ssl.SSLContext, delay: "Synchronized[float]", digests: Connection) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.tls, self.delay, self.digests = tls, delay, digests


class _Handler(socketserver.BaseRequestHandler):
    server: _Server

    def handle(self) -> None:
        self._received = b""
        self._say("220 smarthost.test ESMTP")
        while (line := self._line()) is not None:
            match line.upper().split(b" ")[0]:
                case b"EHLO":
                    secure = isinstance(self.request, ssl.SSLSocket)
                    offers = [
                        "smarthost.test",
                        "PIPELINING",
                        "8BITMIME",
                        "SIZE",
                        "AUTH PLAIN" if secure else "STARTTLS",
                    ]
                    self._say("\r\n".join(f"250-{offer}" for offer in offers), "250 ENHANCEDSTATUSCODES")
                case b"STARTTLS":
                    self._say("220 2.0.0 Go")
                    self.request = self.server.tls.wrap_socket(self.request, server_side=True)
                case b"AUTH":
                    self._say("235 2.7.0 Welcome")
                case b"DATA":
                    self._say("354 Go on")
                    self.server.digests.send_bytes(self._digest())
                    self._say("250 2.0.0 Taken")
                case b"QUIT":
                    self._say("221 2.0.0 Bye")
                    return
                case _:
                    self._say("250 2.0.0 Ok")

    def _say(self, *lines: str) -> None:
        if self.server.delay.value:
            time.sleep(self.server.delay.value)
        self.request.sendall("".join(f"{line}\r\n" for line in lines).encode())

    def _line(self) -> bytes | None:
        while b"\r\n" not in self._received:
            if not (octets := self.request.recv(_PIECE)):
                return None
            self._received += octets
        line, _, self._received = self._received.partition(b"\r\n")
        return line

    def _digest(self) -> bytes:
        octets = self._received
        while START not in octets:
            octets += self.request.recv(_PIECE)
        octets = octets[octets.index(START) :]
        digest = hashlib.sha256()
        while not octets.endswith(_END):
            digest.update(octets[: -len(_END)])
            octets = octets[-len(_END) :] + self.request.recv(_PIECE)
        digest.update(octets[: -len(_END)])
        self._received = b""
        return digest.digest()
