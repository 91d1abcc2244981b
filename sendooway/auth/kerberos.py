"""Kerberos tickets by GSS-API: the contexts that accept clients, and those that log in at smarthosts.

The only module that imports gssapi, and only in a process where somebody says AUTH GSSAPI or an account asks for it: it
takes 60 ms.
"""

import ctypes
import importlib.machinery
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Thread
from typing import Any, TypeVar

from sendooway import one_file
from sendooway.auth import keytab, principal
from sendooway.auth.identity import AuthenticatorError
from sendooway.auth.keytab import KeytabError
from sendooway.auth.principal import PrincipalError
from sendooway.sasl.gssapi import Acceptor, Context, ContextError

SERVICE = "smtp"
LIBRARY = "libgssapi_krb5.so.2"

# For all that the login at one smarthost asks of KDCs. libkrb5 itself waits half a minute for one that does not answer.
KDC_SECONDS = 8.0

Result = TypeVar("Result")


def check(name: str) -> str:
    """The name of the keytab `name`, or of the system's where that is empty, if all is there to accept clients with it.

    Raises AuthenticatorError, which says what is missing and what brings it.
    """
    try:
        one_file.unpack()
        # Whether it is there, without loading it.
        if importlib.machinery.PathFinder.find_spec("gssapi") is None:
            raise AuthenticatorError("the Python package gssapi is missing (Debian: python3-gssapi; pip: gssapi)")
        _load_library()
        name = name or principal.default_keytab()
        keytab.find_service(name, SERVICE)
    except (one_file.UnpackError, PrincipalError, KeytabError) as error:
        raise AuthenticatorError(str(error)) from None
    return name


def _load_library() -> None:
    try:
        ctypes.CDLL(LIBRARY)
    except OSError as error:
        raise AuthenticatorError(f"libgssapi_krb5 is missing (Debian: libgssapi-krb5-2): {error}") from None


def accept(name: str, *, constrained: bool, warn: Callable[[ContextError], None]) -> Acceptor:
    """A context for a client, with the keys of the keytab `name` (empty: the system's).

    With `constrained`, a client that delegates nothing still brings tickets, where the KDC permits constrained
    delegation (S4U2Proxy). This asks the KDC; if that fails, `warn` is called with the error, and clients are accepted
    without it. Raises ContextError.
    """
    gssapi = _gssapi()
    try:
        name = name or principal.default_keytab()
        # libkrb5 has one message for all that can be wrong with a keytab.
        keytab.find_service(name, SERVICE)
    except (PrincipalError, KeytabError) as error:
        raise ContextError(str(error)) from None
    # Without this list SPNEGO would be accepted, too, which is no part of RFC 4752.
    mechanisms = [gssapi.MechType.kerberos]
    with _errors(gssapi):
        if constrained:
            store = {"keytab": name, "client_keytab": name, "ccache": "MEMORY:service"}
            try:
                return _Acceptor(gssapi, gssapi.Credentials(usage="both", mechs=mechanisms, store=store))
            except gssapi.exceptions.GSSError as error:
                warn(_failure(error))
        return _Acceptor(gssapi, gssapi.Credentials(usage="accept", mechs=mechanisms, store={"keytab": name}))


def initiate(host: str, delegated: object | None, client_keytab: str) -> Context:
    """A context with the SMTP server on `host`, in the name of the user that this process is.

    Its tickets come from `delegated` (what a TicketLogin has), else from the user's credential cache, else from the
    KDC, with the keys of the file `client_keytab`, unless that is empty. Its first step takes at most KDC_SECONDS.
    """
    return _Initiator(host, delegated, client_keytab)


class _SecurityContext:
    """What both sides of a context have in common."""

    def __init__(self, gssapi: Any, context: Any) -> None:
        self._gssapi = gssapi
        self._context = context

    @property
    def complete(self) -> bool:
        return bool(self._context.complete)

    def step(self, token: bytes) -> bytes:
        with _errors(self._gssapi):
            return self._context.step(token) or b""

    def wrap(self, message: bytes) -> bytes:
        with _errors(self._gssapi):
            return bytes(self._context.wrap(message, False).message)

    def unwrap(self, token: bytes) -> bytes:
        with _errors(self._gssapi):
            return bytes(self._context.unwrap(token).message)


class _Acceptor(_SecurityContext):
    def __init__(self, gssapi: Any, credentials: Any) -> None:
        super().__init__(gssapi, gssapi.SecurityContext(creds=credentials, usage="accept"))

    def step(self, token: bytes) -> bytes:
        if not token:
            raise ContextError("the client sent an empty token")
        answer = super().step(token)
        if self.complete:
            # The clients decide on mutual authentication and the detection of replays, and some ask for neither.
            if self._gssapi.RequirementFlag.integrity not in self._context.actual_flags:
                raise ContextError("the client's context has no integrity")
            with _errors(self._gssapi):
                target = _name(self._context.target_name)
            if not target.startswith(f"{SERVICE}/"):
                raise ContextError(
                    f"the ticket is for {target}, not for {SERVICE}/HOST", f"the client has to ask for {SERVICE}/HOST"
                )
        return answer

    @property
    def principal(self) -> str:
        with _errors(self._gssapi):
            return _name(self._context.initiator_name)

    @property
    def tickets(self) -> object | None:
        with _errors(self._gssapi):
            credentials: object | None = self._context.delegated_creds
            return credentials


class _Initiator:
    """A context made of the first tickets with which a KDC serves us. They are tried at its first step."""

    def __init__(self, host: str, delegated: object | None, client_keytab: str) -> None:
        self._host = host
        self._delegated = delegated
        self._client_keytab = client_keytab
        self._begun: _SecurityContext | None = None

    @property
    def complete(self) -> bool:
        return self._begun is not None and self._begun.complete

    def step(self, token: bytes) -> bytes:
        return _within(KDC_SECONDS, self._begin) if self._begun is None else self._begun.step(token)

    def wrap(self, message: bytes) -> bytes:
        assert self._begun is not None
        return self._begun.wrap(message)

    def unwrap(self, token: bytes) -> bytes:
        assert self._begun is not None
        return self._begun.unwrap(token)

    def _begin(self) -> bytes:
        gssapi = _gssapi()
        causes: tuple[ContextError, ...] = ()
        for source, acquire in self._sources(gssapi):
            try:
                with _errors(gssapi):
                    begun = _SecurityContext(gssapi, self._context(gssapi, acquire()))
                    token = begun.step(b"")
            except ContextError as error:
                causes += (ContextError(f"{source}: {error}", error.remedy),)
            else:
                self._begun = begun
                return token
        told = (f"{cause}; {cause.remedy}" if cause.remedy else str(cause) for cause in causes)
        raise ContextError(f"no ticket; {'; '.join(told)}", causes=causes)

    def _sources(self, gssapi: Any) -> Iterator[tuple[str, Callable[[], Any]]]:
        """Where tickets may come from, in the words of messages, and what acquires them."""
        mechanisms = [gssapi.MechType.kerberos]
        if self._delegated is not None:
            yield "delegated by the client", lambda: self._delegated
        yield "credential cache", lambda: gssapi.Credentials(usage="initiate", mechs=mechanisms)
        if self._client_keytab:
            store = {"client_keytab": self._client_keytab, "ccache": "MEMORY:client"}
            yield (
                f"client keytab {self._client_keytab}",
                lambda: gssapi.Credentials(usage="initiate", mechs=mechanisms, store=store),
            )

    def _context(self, gssapi: Any, credentials: Any) -> Any:
        flag = gssapi.RequirementFlag
        return gssapi.SecurityContext(
            name=gssapi.Name(f"{SERVICE}@{self._host}", gssapi.NameType.hostbased_service),
            creds=credentials,
            mech=gssapi.MechType.kerberos,
            # RFC 4752, 3.1.
            flags=flag.mutual_authentication | flag.out_of_sequence_detection | flag.integrity,
            usage="initiate",
        )


def _gssapi() -> Any:
    """The package, set up. Raises ContextError if it cannot be loaded."""
    try:
        # Not unpacked yet where no client may use GSSAPI, but an account does: then into the user's own cache.
        one_file.unpack()
        import gssapi
    except one_file.UnpackError as error:
        raise ContextError(str(error)) from None
    except (ImportError, OSError) as error:
        raise ContextError(f"gssapi cannot be loaded (Debian: python3-gssapi, libgssapi-krb5-2): {error}") from None
    package: Any = gssapi
    # Without this, `step` returns the token that tells the other side of an error as if all were well.
    package.SecurityContext.__DEFER_STEP_ERRORS__ = False
    return package


def _name(name: Any) -> str:
    """A principal as libkrb5 writes it. Octets that are not UTF-8 have to come back to it as they are."""
    return bytes(name).decode("utf-8", "surrogateescape")


@contextmanager
def _errors(gssapi: Any) -> Iterator[None]:
    """Makes the package's errors ContextErrors."""
    try:
        yield
    except gssapi.exceptions.GSSError as error:
        raise _failure(error) from error


def _failure(error: Any) -> ContextError:
    """Major and minor status in the library's words, and what helps."""
    major = " ".join(error.get_all_statuses(error.maj_code, True))
    minor = " ".join(error.get_all_statuses(error.min_code, False))
    text = f"{minor} (minor {error.min_code}); {major} (major {error.maj_code:#x})"
    # The minor status is 32 bits of an error code that libkrb5 has as a negative number.
    return ContextError(text, _REMEDIES.get(error.min_code - 2**32, ""))


def _within(seconds: float, call: Callable[[], Result]) -> Result:
    """What `call` returns or raises. Raises ContextError if that takes longer: it goes on then, unheard.

    libkrb5 waits in C, where no signal reaches Python, and has no limit of its own to set.
    """
    outcome: list[Callable[[], Result]] = []

    def run() -> None:
        try:
            result = call()
        except Exception as error:
            failure = error

            def fail() -> Result:
                raise failure

            outcome.append(fail)
        else:
            outcome.append(lambda: result)

    thread = Thread(target=run, daemon=True)
    try:
        thread.start()
    except RuntimeError as error:
        raise ContextError(str(error), "there are too many processes or threads, of this user or in all") from error
    thread.join(seconds)
    if not outcome:
        raise ContextError(f"no KDC answered within {seconds:g} seconds", _UNREACHABLE)
    return outcome[0]()


_CLOCKS = "set the clocks of client, server and KDC by NTP: they may differ by 5 minutes"
_NEW_KEYTAB = "the KDC has another key than the keytab: write it anew with `kadmin ktadd`, then get new tickets"
_SERVICE_UNKNOWN = (
    "services are named after the host name that is connected to: is it right? `kadmin addprinc -randkey smtp/HOST`"
)
_NO_TICKET = "get a ticket with kinit, let the mail client delegate its own, or name a krb5ClientKeytab"
_UNREACHABLE = "is the realm's `kdc` in krb5.conf (or its SRV record) right, and reachable from here?"
_WRONG_SERVICE = (
    "clients have to connect to the host that the keytab's smtp/HOST names; or add the other one with `kadmin ktadd`"
)

# By the numbers of krb5_err.et.
_REMEDIES = {
    -1765328378: "the KDC does not know who this is: see `kadmin listprincs`",  # KDC_ERR_C_PRINCIPAL_UNKNOWN
    -1765328377: _SERVICE_UNKNOWN,  # KDC_ERR_S_PRINCIPAL_UNKNOWN
    # KDC_ERR_BADOPTION
    -1765328371: "the KDC does not permit it: is the ticket forwardable, and may the service delegate to this one?",
    -1765328353: _NEW_KEYTAB,  # AP_ERR_BAD_INTEGRITY
    -1765328352: "get a new ticket with kinit",  # AP_ERR_TKT_EXPIRED
    -1765328351: _CLOCKS,  # AP_ERR_TKT_NYV
    -1765328350: "the same token came twice: a client that repeats itself, or somebody who listens",  # AP_ERR_REPEAT
    -1765328349: _WRONG_SERVICE,  # AP_ERR_NOT_US
    -1765328347: _CLOCKS,  # AP_ERR_SKEW
    -1765328343: _NEW_KEYTAB,  # AP_ERR_MODIFIED
    -1765328340: _NEW_KEYTAB,  # AP_ERR_BADKEYVER
    -1765328339: _WRONG_SERVICE,  # AP_ERR_NOKEY
    -1765328243: _NO_TICKET,  # CC_NOTFOUND
    -1765328240: _WRONG_SERVICE,  # AP_WRONG_PRINC
    -1765328236: _CLOCKS,  # KDCREP_SKEW
    -1765328230: _UNREACHABLE,  # REALM_UNKNOWN
    -1765328228: _UNREACHABLE,  # KDC_UNREACH
    -1765328203: "the keytab is missing, cannot be read, or lacks the key",  # KT_NOTFOUND
    -1765328189: _NO_TICKET,  # FCC_NOFILE
    -1765328164: _UNREACHABLE,  # REALM_CANT_RESOLVE
    -1765328154: _NEW_KEYTAB,  # KT_KVNONOTFOUND
}
