"""A small HTTPS server on loopback, for documents and for what hostile servers do."""

import contextlib
import ssl
import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType

from servers.certificates import Certificate
from servers.processes import PATIENCE

Page = bytes | str | Callable[["Handler"], None]
"""A document; the URL that a redirection leads to; or what else to do with the request."""


class Handler(BaseHTTPRequestHandler):
    server: "_Server"

    def do_GET(self) -> None:
        host = self.headers["Host"]
        self.server.asked.append(f"{host}{self.path}")
        # A client that has had enough goes away while we send.
        with contextlib.suppress(OSError):
            match self.server.pages.get(f"{host}{self.path.partition('?')[0]}"):
                case None:
                    self.send_error(404)
                case bytes() as document:
                    self.begin()
                    self.wfile.write(document)
                case str() as url:
                    self.send_response(302)
                    self.send_header("Location", url)
                    self.end_headers()
                case page:
                    page(self)

    def begin(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/xml")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, pages: Mapping[str, Page]) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.pages = pages
        self.asked: list[str] = []

    def handle_error(self, *_: object) -> None:
        pass  # a client that does not like our certificate


class WebServer:
    """Serves 127.0.0.1:`port` inside a `with`. `pages` are by HOST/PATH; `asked` are HOST/PATH?QUERY."""

    def __init__(self, certificate: Certificate, pages: Mapping[str, Page]) -> None:
        self._server = _Server(pages)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate.certificate, certificate.key)
        # The handshake is done by the thread of the connection, at its first read.
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True, do_handshake_on_connect=False)
        self.port: int = self._server.server_address[1]
        self.asked = self._server.asked
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    def __enter__(self) -> "WebServer":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join(PATIENCE)
        self._server.server_close()
