"""A login at a smarthost, as the user: which mechanism, and what it says. The network is not known here."""

from collections.abc import Callable

from sendooway import sasl
from sendooway.accounts.account import Account
from sendooway.auth import kerberos
from sendooway.auth.identity import Identity
from sendooway.config import Use, UserSettings
from sendooway.privsep.messages import MAX_REASON, AccountFound, ProtocolError, SaslResponse, SaslUnavailable
from sendooway.privsep.password import PasswordError, Passwords
from sendooway.sasl import GSSAPI, ContextError, SaslError
from sendooway.secret import Secret


class SmarthostLogin:
    """A login with one account, mechanism by mechanism.

    `tickets` is what the client delegated, None: nothing. `client_keytab` is a path, empty: none but the system's.
    `warn` hears of tickets that cannot be had, and of a password that cannot be had anew.
    """

    def __init__(
        self,
        account: Account,
        settings: UserSettings,
        passwords: Passwords,
        tickets: object | None,
        client_keytab: str,
        warn: Callable[[Account, ContextError | PasswordError], None],
    ) -> None:
        self.account = account
        self._settings = settings
        self._passwords = passwords
        self._tickets = tickets
        self._client_keytab = client_keytab
        self._warn = warn
        self._mechanism = ""
        self._dialogue: sasl.Client | None = None
        # A password from an earlier login may have been changed since; the first so many refusals were of that one.
        self._may_be_old = account.credentials is not None and passwords.is_kept(account.credentials.password)
        self._forgiven = 0

    def begin(self, offered: tuple[str, ...], refused: tuple[str, ...]) -> SaslResponse | SaslUnavailable:
        """Begin with the strongest mechanism `offered` that the smarthost has not `refused`, the latest of these last.

        When a password from an earlier login is refused, it is asked for anew, once; if it is another one now, all that
        was refused with the old one has another chance.
        """
        refused = self._without_forgiven(refused)
        usable = mechanisms(self.account, self._settings)
        useless = frozenset(sasl.STRENGTH).difference(usable)
        uses = _uses(self._settings)
        always = frozenset(mechanism for mechanism in usable if uses[mechanism] is Use.ALWAYS_TRY)
        failures: tuple[str, ...] = ()
        while mechanism := sasl.choose(offered, always, useless, refused):
            self._mechanism = mechanism
            try:
                self._dialogue = self._open(mechanism)
                return self._response(next(self._dialogue))
            except ContextError as error:
                for cause in error.causes or (error,):
                    self._warn(self.account, cause)
                failures += (f"{mechanism}: {error}",)
                refused += (mechanism,)
            except PasswordError as error:
                failures += (f"{error}; {error.remedy}" if error.remedy else str(error),)
                break
        self._dialogue = None
        return SaslUnavailable("; ".join(failures)[:MAX_REASON] or self._unavailable(offered, refused, usable))

    def respond(self, challenge: bytes) -> SaslResponse | SaslUnavailable:
        """Answer a challenge of the smarthost. Raises ProtocolError if no login was begun."""
        if self._dialogue is None:
            raise ProtocolError("a SaslContinue without a login")
        try:
            return self._response(self._dialogue.send(challenge))
        except (ContextError, SaslError) as error:
            self._dialogue = None
            return SaslUnavailable(str(error))

    def _open(self, mechanism: str) -> sasl.Client:
        account = self.account
        if mechanism == GSSAPI:
            return sasl.gssapi.client(kerberos.initiate(account.host, self._tickets, self._client_keytab))
        assert account.credentials is not None
        password = self._passwords.fetch(account.credentials.password)
        return sasl.client(mechanism, account.credentials.username, password)

    def _without_forgiven(self, refused: tuple[str, ...]) -> tuple[str, ...]:
        if self._may_be_old and self.account.credentials and refused and refused[-1] in sasl.CLIENTS:
            self._may_be_old = False
            try:
                if self._passwords.renew(self.account.credentials.password):
                    self._forgiven = len(refused)
            except PasswordError as error:
                # What the client hears is that the smarthost refused the old one.
                self._warn(self.account, error)
        tickets = tuple(mechanism for mechanism in refused[: self._forgiven] if mechanism not in sasl.CLIENTS)
        return tickets + refused[self._forgiven :]

    def _response(self, octets: bytes | None) -> SaslResponse:
        return SaslResponse(self._mechanism, None if octets is None else Secret(octets))

    def _unavailable(self, offered: tuple[str, ...], refused: tuple[str, ...], usable: tuple[str, ...]) -> str:
        possible = _possible(self.account)
        parts = [f"offered: {' '.join(offered) or 'none'}", f"supported: {' '.join(possible)}"]
        if never := sorted(set(possible).difference(usable)):
            parts.append(f"not allowed here: {' '.join(never)}")
        if refused:
            parts.append(f"refused before: {' '.join(refused)}")
        return f"no mechanism to log in with is left ({'; '.join(parts)})"


def describe(
    account: Account, user: Identity, number: int = 0, fingerprint: bytes = b"", *, lasting: bool = False
) -> AccountFound:
    """What is told of an account to who speaks with its smarthost: all but its secrets."""
    return AccountFound(
        number=number,
        origin=str(account.origin),
        username=_username(account, user),
        host=account.host,
        port=account.port,
        security=account.security.value,
        check_certificate=account.check_certificate,
        fingerprint=fingerprint,
        lasting=lasting,
        own_ca=bool(account.ca_file),
        certificate_sha256=account.certificate_sha256,
        ehlo_name=account.ehlo_name,
    )


def _username(account: Account, user: Identity) -> str:
    """The login at the smarthost; empty where there is none. A ticket is the user's own."""
    if account.credentials is not None:
        return account.credentials.username
    return user.name if account.gssapi else ""


def mechanisms(account: Account, settings: UserSettings) -> tuple[str, ...]:
    """The mechanisms that this account has a secret for and the settings allow, the strongest first."""
    uses = _uses(settings)
    return tuple(mechanism for mechanism in _possible(account) if uses[mechanism] is not Use.NEVER)


def _possible(account: Account) -> tuple[str, ...]:
    having = frozenset((GSSAPI,) if account.gssapi else ()).union(sasl.CLIENTS if account.credentials else ())
    return tuple(mechanism for mechanism in sasl.STRENGTH if mechanism in having)


def _uses(settings: UserSettings) -> dict[str, Use]:
    return {
        GSSAPI: settings.smarthost_gssapi,
        "CRAM-MD5": settings.smarthost_cram_md5,
        "PLAIN": settings.smarthost_plain,
        "LOGIN": settings.smarthost_login,
    }
