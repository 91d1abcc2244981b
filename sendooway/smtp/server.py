"""Our side of the dialogue with a mail client: a line in, a decision out.

The server answers what concerns itself: greeting, EHLO, STARTTLS, AUTH, and everything outside a mail. MAIL is the
session's: it looks up the account, and the relay speaks until that mail is done.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from sendooway.smtp import command as commands
from sendooway.smtp.command import Command, CommandError, Envelope
from sendooway.smtp.lines import LineFault
from sendooway.smtp.reply import Reply, reply


@dataclass(frozen=True)
class Respond:
    """Say this and go on."""

    reply: Reply


@dataclass(frozen=True)
class Close:
    """Say this and close the connection."""

    reply: Reply


@dataclass(frozen=True)
class StartTls:
    """Say this and begin the handshake."""

    reply: Reply


@dataclass(frozen=True)
class Authenticate:
    """Log the client in with this mechanism (in capitals); `initial_response` None where the client sent none."""

    mechanism: str
    initial_response: bytes | None = field(repr=False)  # it may be a password


@dataclass(frozen=True)
class Forward:
    """Find the smarthost of this sender and hand the mail over."""

    mail: Envelope


@dataclass(frozen=True)
class Discard:
    """Read so many octets that belong to the command, and forget them; then carry out `decision`."""

    octets: int
    decision: "Decision"


Decision = Respond | Close | StartTls | Authenticate | Forward | Discard


@dataclass(frozen=True)
class Policy:
    """What this server offers on this connection.

    `size_limit` is in octets, 0 without limit, None where SIZE is not offered. `login_needs_tls`: no AUTH in clear. The
    last of `most_errors` faulty commands ends the connection, as the last of `most_failed_logins` does.
    """

    localname: str
    starttls: bool
    login_needs_tls: bool
    mechanisms: tuple[str, ...]
    eight_bit_mime: bool
    size_limit: int | None
    most_errors: int
    most_failed_logins: int


class Server:
    """The state of the dialogue with one client, from greeting to QUIT."""

    def __init__(self, policy: Policy, *, tls: bool = False) -> None:
        self._policy = policy
        self._tls = tls
        self._errors = 0
        self._failed_logins = 0
        self.logged_in = False
        self.client_name = ""  # as EHLO or HELO told it

    def greeting(self) -> Reply:
        """What a client reads first (RFC 5321, 4.2); `greeting.line` has the same words."""
        return reply(220, "", f"{self._policy.localname} ESMTP Sendooway")

    def receive(self, line: bytes | LineFault) -> Decision:
        """What is to be done about one line without CR LF."""
        try:
            if isinstance(line, LineFault):
                raise CommandError(500, "5.5.2", line.value)
            return self._answer(commands.parse(line))
        except CommandError as error:
            return self.fault(reply(error.code, error.enhanced, error.text))

    def _answer(self, command: Command) -> Decision:
        answer = _ANSWERS.get(command.verb)
        if answer is None:
            raise CommandError(502, "5.5.1", "Command not implemented")
        return answer(self, command.argument)

    def fault(self, refusal: Reply) -> Decision:
        """Refuses with this reply and counts it: one mistake too many ends the connection."""
        self._errors += 1
        return Respond(refusal) if self.errors_left else Close(too_many_errors(self._policy.localname))

    @property
    def errors_left(self) -> int:
        """How many more mistakes end the connection."""
        return max(0, self._policy.most_errors - self._errors)

    # What the session has done

    def tls_started(self) -> None:
        """All that the client said before is void (RFC 3207, 4.2)."""
        self._tls = True
        self.client_name = ""

    def login_succeeded(self) -> None:
        """From now on MAIL is allowed, and AUTH and STARTTLS are not."""
        self.logged_in = True

    def mail_ended(self, errors: int, *, accepted: bool) -> None:
        """A mail is over, within which `errors` faulty commands were answered. One that was `accepted` makes up for all
        mistakes."""
        self._errors = 0 if accepted else self._errors + errors

    def login_failed(self) -> bool:
        """Counts it. True if this was the last attempt on this connection."""
        self._failed_logins += 1
        return self._failed_logins >= self._policy.most_failed_logins

    # One method a command; `argument` is what follows the verb

    def _ehlo(self, argument: str) -> Decision:
        self._greeted(argument)
        return Respond(Reply(250, "", (f"{self._policy.localname} greets {argument}", *self._extensions())))

    def _helo(self, argument: str) -> Decision:
        self._greeted(argument)
        return Respond(reply(250, "", self._policy.localname))

    def _greeted(self, argument: str) -> None:
        if not argument or " " in argument:
            raise CommandError(500, "5.5.2", "Syntax error, say EHLO and the name of your host")
        self.client_name = argument

    def _extensions(self) -> list[str]:
        # Only what can be kept for any smarthost: which one it will be is not known before MAIL.
        offers = ["PIPELINING", "ENHANCEDSTATUSCODES", "CHUNKING", "DSN"]
        if self._policy.eight_bit_mime:
            offers += ["8BITMIME", "SMTPUTF8"]  # the second needs the first (RFC 6531, 3.1)
        if self._policy.size_limit is not None:
            offers.append(f"SIZE {self._policy.size_limit}")
        if self._policy.starttls and not self._tls:
            offers.append("STARTTLS")
        if self._policy.mechanisms and not self._login_forbidden() and not self.logged_in:
            offers.append(" ".join(("AUTH", *self._policy.mechanisms)))
        return offers

    def _login_forbidden(self) -> bool:
        return self._policy.login_needs_tls and not self._tls

    def _starttls(self, argument: str) -> Decision:
        _no_argument(argument)
        if not self._policy.starttls:
            raise CommandError(502, "5.5.1", "TLS is not available")
        if self._tls or self.logged_in:
            raise CommandError(503, "5.5.1", "TLS is already active" if self._tls else "Too late for TLS")
        return StartTls(reply(220, "2.0.0", "Begin TLS"))

    def _auth(self, argument: str) -> Decision:
        mechanism, blank, initial_response = argument.partition(" ")
        mechanism = mechanism.upper()
        if not mechanism:
            raise CommandError(500, "5.5.2", "Syntax error, say AUTH and a mechanism")
        if self.logged_in:
            raise CommandError(503, "5.5.1", "Already logged in")
        if self._login_forbidden():
            raise CommandError(530, "5.7.0", "Must issue a STARTTLS command first")
        if mechanism not in self._policy.mechanisms:
            raise CommandError(504, "5.5.4", "Unknown mechanism")
        response = commands.parse_base64(initial_response.encode("ascii")) if blank else None
        return Authenticate(mechanism, response)

    def _mail(self, argument: str) -> Decision:
        if not self.logged_in:
            forbidden = self._login_forbidden()
            text = "Must issue a STARTTLS command first" if forbidden else "Authentication required"
            raise CommandError(530, "5.7.0", text)
        mail = commands.parse_mail(argument)
        if not mail.is_ascii and "SMTPUTF8" not in mail.parameters:
            raise CommandError(553, "5.6.7", "A UTF-8 address needs SMTPUTF8 behind it")
        if "REQUIRETLS" in mail.parameters and not self._tls:
            # RFC 8689, 4.: it is for every hop, and this is the first.
            raise CommandError(530, "5.7.0", "REQUIRETLS needs TLS between you and this server too")
        return Forward(mail)

    def _bdat(self, argument: str) -> Decision:
        try:
            chunk = commands.parse_bdat(argument)
        except CommandError as error:
            # Were we to go on, a part of a message could be taken for commands.
            return Close(reply(error.code, error.enhanced, f"{error.text}; closing"))
        # A chunk is read to its end before it is refused (RFC 3030, 2.).
        return Discard(chunk.size, self.fault(reply(503, "5.5.1", "MAIL first")))

    def _out_of_sequence(self, argument: str) -> Decision:
        raise CommandError(503, "5.5.1", "MAIL first")

    def _rset(self, argument: str) -> Decision:
        _no_argument(argument)
        return Respond(reply(250, "2.0.0", "Ok"))

    def _noop(self, argument: str) -> Decision:
        return Respond(reply(250, "2.0.0", "Ok"))

    def _help(self, argument: str) -> Decision:
        return Respond(reply(214, "2.0.0", "Log in, then send as any of your identities; see sendooway(1)"))

    def _vrfy(self, argument: str) -> Decision:
        return Respond(reply(252, "2.5.0", "Will not verify, send some mail"))

    def _quit(self, argument: str) -> Decision:
        _no_argument(argument)
        return Close(reply(221, "2.0.0", f"{self._policy.localname} Bye"))


_ANSWERS: dict[str, Callable[[Server, str], Decision]] = {
    "EHLO": Server._ehlo,
    "HELO": Server._helo,
    "STARTTLS": Server._starttls,
    "AUTH": Server._auth,
    "MAIL": Server._mail,
    "RCPT": Server._out_of_sequence,
    "DATA": Server._out_of_sequence,
    "BDAT": Server._bdat,
    "RSET": Server._rset,
    "NOOP": Server._noop,
    "HELP": Server._help,
    "VRFY": Server._vrfy,
    "QUIT": Server._quit,
}


def too_many_errors(localname: str) -> Reply:
    """What ends a connection with a machine gone wrong, or with somebody who tries things."""
    return reply(421, "4.7.0", f"{localname} Too many errors, closing")


def _no_argument(argument: str) -> None:
    if argument:
        raise CommandError(500, "5.5.2", "Syntax error, this command takes no argument")
