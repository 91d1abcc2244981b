"""`authBackend = PAM`: the service `sendooway`, authentication and account management.

The only module that imports python-pam, and only in processes that check logins: it takes 40 ms and starts ldconfig.
"""

import ctypes
import os
from typing import Any

from sendooway.auth.identity import AuthenticatorError, Identity, LoginError, Verdict, local_identity
from sendooway.secret import Secret

SERVICE = "sendooway"
SERVICE_FILES = (f"/etc/pam.d/{SERVICE}", f"/usr/lib/pam.d/{SERVICE}")

# security/_pam_types.h
_PAM_RHOST = 4
_PAM_AUTH_ERR = 7
_PAM_FAIL_DELAY = 10
_PAM_DISALLOW_NULL_AUTHTOK = 0x0001
_PAM_SILENT = 0x8000

# The results that say no, for the log. All others mean that PAM is out of order.
_REFUSALS = {
    6: "denied",
    7: "credentials",
    10: "unknown-user",
    11: "too-many-tries",
    12: "password-expired",
    13: "account-expired",
    27: "password-expired",
}

# pam_fail_delay(3): with this function set, PAM itself does not wait. The agent delays all refusals alike; the modules'
# own delay would tell a wrong password from an unknown user.
_no_delay = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_uint, ctypes.c_void_p)(lambda *_: None)


def check() -> None:
    """Raises AuthenticatorError if the service is not defined: then libpam would silently take `other`."""
    if not any(map(os.path.exists, SERVICE_FILES)):
        raise AuthenticatorError(
            f"authBackend = PAM needs the PAM service {SERVICE}: there is no {SERVICE_FILES[0]};"
            " copy contrib/pam/sendooway there, or set `authBackend = none`"
        )


def load() -> None:
    """Load python-pam and libpam. Raises AuthenticatorError if one is missing."""
    # python-pam would take the display for the terminal that the user sits at.
    os.environ.pop("DISPLAY", None)
    try:
        import pam

        pam.pam()
    # python-pam looks for the functions of libpam without asking whether there is one.
    except (ImportError, AttributeError, OSError) as error:
        raise AuthenticatorError(
            f"authBackend = PAM needs python-pam and libpam (Debian: libpam0g): {error}"
        ) from error


_held: Any = None


def hold() -> None:
    """Load the modules of the service, so that processes that are forked from now on need not.

    No module is asked anything; if one cannot be loaded, the first login will tell. They stay loaded until this is
    called again, which loads what has replaced them. The service's file itself is read anew at each login.
    """
    global _held
    import pam

    if _held is not None:
        _held.end()
    _held = pam.pam()
    # pam_start(3) loads them; this transaction goes no further, and is not ended.
    _held.pam_authenticate = lambda *_: _PAM_AUTH_ERR
    _held.authenticate("", b"", service=SERVICE, resetcreds=False, call_end=False)


def verify(name: str, password: Secret, client: str) -> Identity:
    """Ask PAM about a user and a password; `client` is the address of the client's host, for PAM_RHOST.

    The name has to be one that `login.is_name` lets through. Raises LoginError.
    """
    # With `nullok` in the service, an account without password would let everyone in.
    if not password.octets:
        raise LoginError(Verdict.REFUSED, "empty-password")
    # No password holds a NUL; C would see only what stands before it.
    if b"\0" in password.octets:
        raise LoginError(Verdict.REFUSED, "credentials")
    _ask(name, password.octets, client, authenticate=True)
    return local_identity(name)


def recognise(name: str, client: str) -> Identity:
    """As `verify`, for a user whose password need not be proved again: PAM is asked about the account only."""
    check_account(name, client)
    return local_identity(name)


def check_account(name: str, client: str) -> None:
    """Ask PAM whether an account may be used now, by somebody who has proved already to be its user.

    Raises LoginError, as `verify` does.
    """
    _ask(name, b"", client, authenticate=False)


def _ask(name: str, password: bytes, client: str, *, authenticate: bool) -> None:
    transaction = _transaction(client, authenticate=authenticate)
    if not transaction.authenticate(name, password, service=SERVICE, resetcreds=False):
        if transaction.code in _REFUSALS:
            raise LoginError(Verdict.REFUSED, _REFUSALS[transaction.code])
        raise LoginError(Verdict.LATER, f"PAM: {transaction.reason} ({transaction.code})")


def _transaction(client: str, *, authenticate: bool) -> Any:
    """A PAM transaction that has PAM_RHOST, no delay, and strict flags, or does account management only.

    python-pam sets neither items nor flags; it calls what stands in this attribute when all else is prepared, and goes
    on to account management if that succeeds.
    """
    import pam

    transaction = pam.pam()
    pam_authenticate = transaction.pam_authenticate
    set_item = transaction.pam_set_item

    def prepare(handle: Any, flags: int) -> int:
        items = ((_PAM_RHOST, ctypes.c_char_p(client.encode("ascii"))), (_PAM_FAIL_DELAY, _no_delay))
        for item, value in items:
            result = int(set_item(handle, item, ctypes.cast(value, ctypes.c_void_p)))
            if result != 0:
                return result
        return int(pam_authenticate(handle, flags | _PAM_SILENT | _PAM_DISALLOW_NULL_AUTHTOK)) if authenticate else 0

    transaction.pam_authenticate = prepare
    return transaction
