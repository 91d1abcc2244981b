"""From a Kerberos principal to a local user, by the rules of the realm: krb5.conf(5), and the user's .k5login.

The only module that calls libkrb5. No package for Python offers these functions.
"""

import contextlib
import ctypes
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from ctypes import byref, c_char_p, c_int, c_void_p

from sendooway.auth.identity import Identity
from sendooway.unix import privileges
from sendooway.unix.privileges import PrivilegeError

LIBRARY = "libkrb5.so.3"

# The home folder may be on a file system that does not answer, and .k5login a FIFO.
READ_SECONDS = 5.0

_MAX_NAME_OCTETS = 1024  # octets


class PrincipalError(Exception):
    """libkrb5 refuses, or is missing. The text has its own words, and what helps."""


def to_local(principal: str) -> str | None:
    """The name of the local user that auth_to_local makes of a principal, None if there is none.

    Another realm's principals have none unless krb5.conf maps them. Raises PrincipalError.
    """
    with _context() as (krb5, context), _parsed(krb5, context, principal) as parsed:
        name = ctypes.create_string_buffer(_MAX_NAME_OCTETS)
        if krb5.krb5_aname_to_localname(context, parsed, len(name) - 1, name) != 0:
            return None
        return name.value.decode("utf-8", "surrogateescape") or None


def may_act_as(principal: str, user: Identity) -> bool:
    """Whether the user lets the principal in: by ~/.k5login where there is one, else if auth_to_local gives this user.

    A child looks for the file with the user's own rights: call it where there is one thread. Raises PrincipalError
    where these rights are not enough to tell whether there is such a file, and where it takes too long to read.
    """
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        answer = b""
        try:
            answer = _answer(principal, user)
        finally:
            os.write(writing, answer)
            os._exit(0)
    os.close(writing)
    with open(reading, "rb") as pipe:
        answer = pipe.read()
    os.waitpid(pid, 0)
    match answer[:1]:
        case b"+":
            return True
        case b"-":
            return False
        case _:
            raise PrincipalError(answer[1:].decode() or f"{user.home}/.k5login cannot be read in time")


def _answer(principal: str, user: Identity) -> bytes:
    """`+` or `-` or, behind `!`, what went wrong."""
    signal.setitimer(signal.ITIMER_REAL, READ_SECONDS)
    try:
        privileges.drop_to(user.uid, user.gid, user.name)
        # If libkrb5 cannot search the home folder, it acts as if there were no .k5login, and lets in those whom that
        # file may keep out.
        with contextlib.suppress(FileNotFoundError):
            os.stat(os.path.join(user.home, "."))
        with _context() as (krb5, context), _parsed(krb5, context, principal) as parsed:
            return b"+" if krb5.krb5_kuserok(context, parsed, user.name.encode()) else b"-"
    except (PrivilegeError, PrincipalError) as error:
        return b"!" + str(error).encode()
    except OSError as error:
        return f"!{user.home} cannot be searched for .k5login: {error.strerror}".encode()


def default_keytab() -> str:
    """The system's keytab, as in FILE:/etc/krb5.keytab. Raises PrincipalError."""
    with _context() as (krb5, context):
        name = ctypes.create_string_buffer(_MAX_NAME_OCTETS)
        _check(krb5, context, krb5.krb5_kt_default_name(context, name, len(name)))
        return name.value.decode("utf-8", "surrogateescape")


def check() -> None:
    """Raises PrincipalError if libkrb5 is missing."""
    _library()


def _library() -> ctypes.CDLL:
    try:
        krb5 = ctypes.CDLL(LIBRARY)
    except OSError as error:
        raise PrincipalError(f"libkrb5 is missing (Debian: libkrb5-3): {error}") from None
    krb5.krb5_init_context.argtypes = [ctypes.POINTER(c_void_p)]
    krb5.krb5_free_context.argtypes = [c_void_p]
    krb5.krb5_parse_name.argtypes = [c_void_p, c_char_p, ctypes.POINTER(c_void_p)]
    krb5.krb5_free_principal.argtypes = [c_void_p, c_void_p]
    krb5.krb5_aname_to_localname.argtypes = [c_void_p, c_void_p, c_int, c_char_p]
    krb5.krb5_kuserok.argtypes = [c_void_p, c_void_p, c_char_p]
    krb5.krb5_kt_default_name.argtypes = [c_void_p, c_char_p, c_int]
    krb5.krb5_get_error_message.argtypes = [c_void_p, c_int]
    krb5.krb5_get_error_message.restype = c_void_p
    krb5.krb5_free_error_message.argtypes = [c_void_p, c_void_p]
    return krb5


@contextmanager
def _context() -> Iterator[tuple[ctypes.CDLL, c_void_p]]:
    krb5 = _library()
    context = c_void_p()
    _check(krb5, None, krb5.krb5_init_context(byref(context)))
    try:
        yield krb5, context
    finally:
        krb5.krb5_free_context(context)


@contextmanager
def _parsed(krb5: ctypes.CDLL, context: c_void_p, principal: str) -> Iterator[c_void_p]:
    parsed = c_void_p()
    octets = principal.encode("utf-8", "surrogateescape")
    _check(krb5, context, krb5.krb5_parse_name(context, octets, byref(parsed)))
    try:
        yield parsed
    finally:
        krb5.krb5_free_principal(context, parsed)


def _check(krb5: ctypes.CDLL, context: c_void_p | None, code: int) -> None:
    if code == 0:
        return
    message = krb5.krb5_get_error_message(context, code)
    text = ctypes.string_at(message).decode("utf-8", "backslashreplace")
    krb5.krb5_free_error_message(context, message)
    raise PrincipalError(f"libkrb5: {text} ({code}); is krb5.conf right?")
