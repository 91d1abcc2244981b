"""What crosses the borders between the processes: flat values, nothing else.

Every message is one SOCK_SEQPACKET datagram: a JSON object of its fields and, as `message`, its name, octets in
base64. Who may say what when stands in tables: of the proxy in `agent.py` and `sessions.py`, of the agent in
`agents.py`. The messages, each with its answers:

    proxy -> monitor   ProxyReady     (no answer)
    proxy -> monitor   AgentWanted    (no answer; with descriptors: the agent's end of a new channel, the client's
                                      socket)
    proxy -> agent     LoginBegin     LoginChallenge | LoginDone | LoginRefused
                       LoginContinue  LoginChallenge | LoginDone | LoginRefused
                       LoginCancel    (no answer)
                       LookUp         AccountFound | AccountMissing | LookUpFailed
                       SaslBegin      SaslResponse | SaslUnavailable
                       SaslContinue   SaslResponse | SaslUnavailable
    agent -> monitor   CheckWanted    CheckGranted
                       CheckEnded     (no answer)
                       CheckPassed    SessionVerdict (CheckPassed may come with a descriptor: a copy of the agent's end
                                      of its channel to the proxy)
                       SessionOver    (no answer)
    monitor -> agent   LoginGiven     (no answer; with a descriptor: the agent's end of a new channel)
                       SessionGiven   (no answer; with a descriptor: that copy)
"""

import binascii
import json
from collections.abc import Callable
from dataclasses import dataclass, fields

from sendooway.secret import Secret

# Far above the longest message (an AUTH line of 12288 octets), far below what the kernel takes as one datagram.
MAX_OCTETS = 65536

# Of a reason: the client's reply has no room for more.
MAX_REASON = 1000  # characters

# Of trusted certificates, a descriptor of which may travel beside LoginDone and AccountFound: four times what systems
# come with.
MAX_CA_OCTETS = 1 << 20  # octets


class ProtocolError(Exception):
    """What arrived is no message, or none that is allowed now. The text quotes nothing of it."""


@dataclass(frozen=True)
class ProxyReady:
    """The proxy has given up its rights and begins to serve."""


@dataclass(frozen=True)
class AgentWanted:
    """An agent has to check logins for the session of this id. Descriptors travel beside it.

    `client` is the numeric address that a balancer has told; empty where the connection's own address counts. `user` is
    who wants to log in, as it was typed; empty where that is not known yet. It gives no rights, but may find an agent
    that has checked logins of this user before.
    """

    session: str
    client: str
    user: str = ""


@dataclass(frozen=True)
class LoginBegin:
    """AUTH: `mechanism` in capitals; `initial_response` None where the client sent none."""

    mechanism: str
    initial_response: Secret | None


@dataclass(frozen=True)
class LoginContinue:
    """The client's response to the last challenge, without base64."""

    response: Secret


@dataclass(frozen=True)
class LoginCancel:
    """The client answered a challenge with `*`, or with what is not base64."""


@dataclass(frozen=True)
class LoginChallenge:
    """Say this to the client, in base64, and bring its response."""

    challenge: bytes


@dataclass(frozen=True)
class LoginDone:
    """The login is right, and the agent is this user now. Beside the name come the user's own settings.

    `timeout` is in seconds, None where nobody set one. With `own_ca`, the descriptor of the user's own file of
    trusted certificates travels beside the message.
    """

    user: str
    localname: str
    clone_ehlo: bool
    add_received_field: bool
    timeout: int | None
    own_ca: bool


@dataclass(frozen=True)
class LoginRefused:
    """The login is not granted. `verdict` is the value of an auth.identity.Verdict; `final`: no further attempt is
    allowed on this connection."""

    verdict: str
    final: bool


@dataclass(frozen=True)
class LookUp:
    """Which account serves this sender? `reverse_path` without angle brackets, empty for the null one.

    `ahead`: there is no mail yet, so that this account is not the one used last.
    """

    reverse_path: str
    ahead: bool = False


@dataclass(frozen=True)
class AccountFound:
    """The account that serves the sender, without its secrets. `number` names it in SaslBegin.

    `origin` is the place that defines it (`FILE:LINE`), `username` the login there (empty: no login), `security` the
    value of an accounts.account.Security. Connections may be used again for an account with the same `fingerprint`;
    where it is empty, they may not. `lasting`: to the same sender's next mails in this session the answer is the same,
    since no file was asked. With `own_ca`, the descriptor of the file of certificates that are trusted for this
    smarthost only travels beside the message. `certificate_sha256` and `ehlo_name` are as in accounts.account.Account.
    """

    number: int
    origin: str
    username: str
    host: str
    port: int
    security: str
    check_certificate: bool
    fingerprint: bytes = b""
    lasting: bool = False
    own_ca: bool = False
    certificate_sha256: bytes = b""
    ehlo_name: str = ""


@dataclass(frozen=True)
class AccountMissing:
    """No account serves the sender; these files and mappings were searched, in this order."""

    searched: tuple[str, ...]


@dataclass(frozen=True)
class LookUpFailed:
    """A source cannot be read; `reason` begins with its `FILE:LINE` and quotes nothing of it."""

    reason: str


@dataclass(frozen=True)
class SaslBegin:
    """Begin a login at the smarthost of account `number`, which offers the mechanisms `offered` (in capitals).

    `refused` are the mechanisms that this smarthost has refused in this dialogue.
    """

    number: int
    offered: tuple[str, ...]
    refused: tuple[str, ...]


@dataclass(frozen=True)
class SaslContinue:
    """The smarthost's challenge, without base64."""

    challenge: bytes


@dataclass(frozen=True)
class SaslResponse:
    """Say this to the smarthost, in base64. `response` None: no initial response, the smarthost speaks first."""

    mechanism: str
    response: Secret | None


@dataclass(frozen=True)
class SaslUnavailable:
    """No mechanism is left, or the challenge makes no sense. `reason` holds no secret."""

    reason: str


@dataclass(frozen=True)
class CheckWanted:
    """May the login of this user, as it was typed, be checked?

    `proof` is what `remembered.proof` makes of it; empty where nothing is to be remembered.
    """

    user: str
    proof: bytes = b""


@dataclass(frozen=True)
class CheckGranted:
    """Now it may. `remembered`: that the password is right is known from a while ago."""

    remembered: bool = False


@dataclass(frozen=True)
class CheckEnded:
    """It was checked and nobody has logged in. `refused`: by what was typed, not because something is out of order."""

    refused: bool


@dataclass(frozen=True)
class CheckPassed:
    """It was checked: this is `user`, as the system names it, with what else an auth.identity.Identity has.

    May the session begin? With the descriptor beside it, it may as well be given to another agent of this user.
    """

    user: str
    uid: int
    gid: int
    home: str
    mechanism: str


@dataclass(frozen=True)
class SessionVerdict:
    """Not `granted`: this user has as many sessions as may be. `given`: another agent looks after it from now on."""

    granted: bool
    given: bool = False


@dataclass(frozen=True)
class LoginGiven:
    """To an agent that has given its session away: another session, in which this user may want to log in.

    `session` and `client` are those of a visit.Visit.
    """

    session: str
    client: str


@dataclass(frozen=True)
class SessionGiven:
    """To an agent that is a user already: one more session of this user, who has logged in by `mechanism`."""

    session: str
    client: str
    mechanism: str


@dataclass(frozen=True)
class SessionOver:
    """An agent that is a user looks after one session less."""

    session: str


ToMonitor = ProxyReady | AgentWanted | CheckWanted | CheckEnded | CheckPassed | SessionOver
FromMonitor = CheckGranted | SessionVerdict | LoginGiven | SessionGiven
ToAgent = LoginBegin | LoginContinue | LoginCancel | LookUp | SaslBegin | SaslContinue
FromAgent = (
    LoginChallenge
    | LoginDone
    | LoginRefused
    | AccountFound
    | AccountMissing
    | LookUpFailed
    | SaslResponse
    | SaslUnavailable
)
Message = ToMonitor | FromMonitor | ToAgent | FromAgent


def format(message: Message) -> bytes:
    """One datagram. Raises ProtocolError if it is longer than MAX_OCTETS."""
    kind = type(message)
    members: dict[str, object] = {"message": kind.__name__}
    for name, codec in _FIELDS[kind]:
        members[name] = codec.encode(getattr(message, name))
    octets = _ENCODER.encode(members).encode("ascii")
    if len(octets) > MAX_OCTETS:
        raise ProtocolError(f"a {kind.__name__} too long to send")
    return octets


def parse(octets: bytes, allowed: frozenset[type[Message]]) -> Message:
    """The message in one datagram. Raises ProtocolError for all but exactly one well-formed message of `allowed`."""
    if len(octets) > MAX_OCTETS:
        raise ProtocolError("a message too long")
    try:
        members = _DECODER.decode(octets.decode("ascii"))
    # RecursionError: brackets nested thousands deep.
    except (ValueError, RecursionError):
        raise ProtocolError("octets that are no message") from None
    if not isinstance(members, dict):
        raise ProtocolError("octets that are no message")
    name = members.pop("message", None)
    kind = _NAMES.get(name) if isinstance(name, str) else None
    if kind is None:
        raise ProtocolError("a message of unknown name")
    if kind not in allowed:
        raise ProtocolError(f"a {kind.__name__} that is not allowed now")
    if members.keys() != _FIELD_NAMES[kind]:
        raise ProtocolError(f"a {kind.__name__} with missing or unknown fields")
    build: Callable[..., Message] = kind
    try:
        return build(*[codec.decode(members[field]) for field, codec in _FIELDS[kind]])
    except ValueError:
        raise ProtocolError(f"a {kind.__name__} with a field of the wrong type") from None


@dataclass(frozen=True)
class _Codec:
    """Between a field's value and its JSON value. `decode` raises ValueError for any other JSON value."""

    encode: Callable[[object], object]
    decode: Callable[[object], object]


def _same(value: object) -> object:
    return value


def _decode_text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError
    if not value.isascii():
        # Octets that are not UTF-8 travel as surrogateescape makes them; other surrogates are in no text of ours.
        value.encode("utf-8", "surrogateescape")
    return value


def _decode_flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError
    return value


def _decode_number(value: object) -> int:
    # bool is a subclass of int.
    if type(value) is not int:
        raise ValueError
    return value


def _decode_texts(value: object) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise ValueError
    return tuple(map(_decode_text, value))


def _encode_octets(value: object) -> str:
    assert isinstance(value, bytes)
    return binascii.b2a_base64(value, newline=False).decode("ascii")


def _decode_octets(value: object) -> bytes:
    if not isinstance(value, str):
        raise ValueError
    return binascii.a2b_base64(value, strict_mode=True)


def _encode_secret(value: object) -> str:
    assert isinstance(value, Secret)
    return _encode_octets(value.octets)


def _decode_secret(value: object) -> Secret:
    return Secret(_decode_octets(value))


def _optional(codec: _Codec) -> _Codec:
    return _Codec(
        lambda value: None if value is None else codec.encode(value),
        lambda value: None if value is None else codec.decode(value),
    )


def _reject(*_: object) -> object:
    raise ValueError


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError
    return members


_NUMBER = _Codec(_same, _decode_number)
_SECRET = _Codec(_encode_secret, _decode_secret)
_CODECS: dict[object, _Codec] = {
    str: _Codec(_same, _decode_text),
    bool: _Codec(_same, _decode_flag),
    int: _NUMBER,
    int | None: _optional(_NUMBER),
    bytes: _Codec(_encode_octets, _decode_octets),
    Secret: _SECRET,
    Secret | None: _optional(_SECRET),
    tuple[str, ...]: _Codec(_same, _decode_texts),
}

MESSAGES: tuple[type[Message], ...] = (
    ProxyReady,
    AgentWanted,
    LoginBegin,
    LoginContinue,
    LoginCancel,
    LoginChallenge,
    LoginDone,
    LoginRefused,
    LookUp,
    AccountFound,
    AccountMissing,
    LookUpFailed,
    SaslBegin,
    SaslContinue,
    SaslResponse,
    SaslUnavailable,
    CheckWanted,
    CheckGranted,
    CheckEnded,
    CheckPassed,
    SessionVerdict,
    LoginGiven,
    SessionGiven,
    SessionOver,
)
_NAMES = {kind.__name__: kind for kind in MESSAGES}
_FIELDS: dict[type[Message], list[tuple[str, _Codec]]] = {
    kind: [(field.name, _CODECS[field.type]) for field in fields(kind)] for kind in MESSAGES
}
_FIELD_NAMES = {kind: {name for name, _ in _FIELDS[kind]} for kind in MESSAGES}
_ENCODER = json.JSONEncoder(separators=(",", ":"))
_DECODER = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_reject, parse_float=_reject)
