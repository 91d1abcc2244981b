"""The document in which a domain tells mail programs its servers: config-v1.1.xml, as Thunderbird made it known.

    <clientConfig version="1.1">
      <emailProvider id="moon.test">
        <outgoingServer type="smtp">
          <hostname>smtp.moon.test</hostname> <port>465</port>
          <socketType>SSL</socketType> <username>%EMAILADDRESS%</username>
        </outgoingServer>
      </emailProvider>
    </clientConfig>

Whoever serves it is a stranger. A document with a DTD is refused at once, so that there are no entities to expand.
"""

from dataclasses import dataclass
from xml.parsers import expat

from sendooway.accounts.account import Security

MAX_OCTETS = 64 * 1024  # that are worth fetching
_MAX_TEXT = 1000  # characters of one value

_SECURITY = {"ssl": Security.SMTPS, "starttls": Security.STARTTLS}
_SERVER = ["clientConfig", "emailProvider", "outgoingServer"]


@dataclass(frozen=True)
class Server:
    """A smarthost that the document names. `username` is the login there, empty where it says nothing we know."""

    host: str
    port: int
    security: Security
    username: str


class AutoconfigError(Exception):
    """These octets are no such document. The text says why and quotes nothing of them."""


def parse(octets: bytes, address: str) -> tuple[Server, ...]:
    """The smarthosts with TLS, as written, for the mailbox `address`. Raises AutoconfigError."""
    reader = _Reader()
    try:
        reader.read(octets)
    except expat.ExpatError as error:
        raise AutoconfigError(f"line {error.lineno}: {expat.ErrorString(error.code)}") from None
    # LookupError, ValueError: an encoding that Python does not know, or not for XML.
    except (LookupError, ValueError):
        raise AutoconfigError("its encoding is unknown") from None
    if not reader.is_autoconfig:
        raise AutoconfigError("it is not about mail servers")
    servers = (_server(values, address) for values in reader.servers)
    return tuple(server for server in servers if server)


class _Reader:
    """Collects the texts of each `outgoingServer` of the type smtp, the first of each name."""

    def __init__(self) -> None:
        self.servers: list[dict[str, str]] = []
        self.is_autoconfig = False
        self._path: list[str] = []
        self._smtp = False
        self._text = ""

    def read(self, octets: bytes) -> None:
        parser = expat.ParserCreate()
        parser.StartDoctypeDeclHandler = self._refuse
        parser.StartElementHandler = self._begin
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._add
        parser.Parse(octets, True)

    def _refuse(self, *_: object) -> None:
        raise AutoconfigError("it has a DTD")

    def _begin(self, name: str, attributes: dict[str, str]) -> None:
        self._path.append(name)
        self._text = ""
        self.is_autoconfig |= self._path == _SERVER[:1]
        if self._path == _SERVER:
            self._smtp = attributes.get("type") == "smtp"
            if self._smtp:
                self.servers.append({})

    def _add(self, text: str) -> None:
        self._text = (self._text + text)[:_MAX_TEXT]

    def _end(self, name: str) -> None:
        if self._smtp and self._path[:-1] == _SERVER:
            self.servers[-1].setdefault(name, self._text.strip())
        self._path.pop()
        self._text = ""


def _server(values: dict[str, str], address: str) -> Server | None:
    """The smarthost that these values describe; None for one without TLS, or where anything is missing."""
    security = _SECURITY.get(values.get("socketType", "").lower())
    port = values.get("port", "")
    host = _filled(values.get("hostname", ""), address).lower()
    if security is None or not host or not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        return None
    return Server(host, int(port), security, _username(values.get("username", ""), address))


def _filled(template: str, address: str) -> str:
    local_part, _, domain = address.rpartition("@")
    for name, value in (("EMAILADDRESS", address), ("EMAILLOCALPART", local_part), ("EMAILDOMAIN", domain)):
        template = template.replace(f"%{name}%", value)
    return template


def _username(template: str, address: str) -> str:
    # What a stranger wrote becomes part of a stanza: only the placeholders are believed.
    known = {"%EMAILADDRESS%", "%EMAILLOCALPART%"}
    return _filled(template, address) if template in known else ""
