"""What crosses the borders between the processes: flat values, nothing else.

Every message is one SOCK_SEQPACKET datagram. The proxy asks, the agent answers; which question is allowed when
stands in a table in `agent.py`. The pair for each question:

    proxy -> monitor   AgentWanted    (with descriptors: the agent's end of a new channel, the client's socket)
    proxy -> agent     LoginBegin     LoginChallenge | LoginDone | LoginRefused
                       LoginContinue  LoginChallenge | LoginDone | LoginRefused
                       LoginCancel    (no answer)
                       LookUp         AccountFound | AccountMissing | LookUpFailed
                       SaslBegin      SaslResponse | SaslUnavailable
                       SaslContinue   SaslResponse | SaslUnavailable
"""

from dataclasses import dataclass

from sendooway.secret import Secret


@dataclass(frozen=True)
class AgentWanted:
    """Fork an agent for the session of this id. Descriptors travel beside it."""

    session: str


@dataclass(frozen=True)
class LoginBegin:
    """AUTH: `mechanism` in capitals; `initial_response` None where the client sent none."""

    mechanism: str
    initial_response: Secret | None


@dataclass(frozen=True)
class LoginContinue:
    """The client's answer to the last challenge."""

    response: Secret


@dataclass(frozen=True)
class LoginCancel:
    """The client answered a challenge with `*`, or with what is not base64."""


@dataclass(frozen=True)
class LoginChallenge:
    challenge: bytes


@dataclass(frozen=True)
class LoginDone:
    """The agent is that user now. What follows are the settings of this user's sessions.

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
    """`verdict` is the value of an auth.identity.Verdict; `final`: no further attempt on this connection."""

    verdict: str
    final: bool


@dataclass(frozen=True)
class LookUp:
    """Which account serves this sender? `reverse_path` without angle brackets, empty for the null one."""

    reverse_path: str


@dataclass(frozen=True)
class AccountFound:
    """The account that serves the sender, without its secrets. `number` names it in SaslBegin.

    `origin` is the place that defines it (`FILE:LINE`), `username` the login there (empty: no login), `security` the
    value of an accounts.account.Security.
    """

    number: int
    origin: str
    username: str
    host: str
    port: int
    security: str
    check_certificate: bool


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
    challenge: bytes


@dataclass(frozen=True)
class SaslResponse:
    """Say this to the smarthost. `response` None: no initial response, the smarthost speaks first."""

    mechanism: str
    response: Secret | None


@dataclass(frozen=True)
class SaslUnavailable:
    """No mechanism is left, or the challenge makes no sense. `reason` holds no secret."""

    reason: str


ToMonitor = AgentWanted
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
