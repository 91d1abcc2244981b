"""Who may log in: what holds for every back end, around what each of them says."""

import grp
import os
from collections.abc import Callable, Collection
from dataclasses import dataclass

from sendooway.auth import none, pam
from sendooway.auth.identity import AuthenticatorError, Identity, LoginError, Verdict
from sendooway.config import Backend
from sendooway.sasl import PasswordLogin
from sendooway.secret import Secret


@dataclass(frozen=True)
class Authenticator:
    """A back end.

    `check` is quick and raises AuthenticatorError if it is not set up; `load` imports what it needs, takes its time
    only once, and raises the same; `verify(name, password, client)` gives the identity or raises LoginError.
    """

    check: Callable[[], None]
    load: Callable[[], None]
    verify: Callable[[str, Secret, str], Identity]
    admits_root: bool = False


AUTHENTICATORS: dict[Backend, Authenticator] = {
    Backend.PAM: Authenticator(pam.check, pam.load, pam.verify),
    # Whoever runs the process may log in, whoever that is.
    Backend.NONE: Authenticator(none.check, none.load, none.verify, admits_root=True),
}


def verify(claim: PasswordLogin, authenticator: Authenticator, valid_users: Collection[str], client: str) -> Identity:
    """The user that a client proves to be, if this user may log in.

    `valid_users` are names and %groups, empty for everyone; `client` is the address of the client's host, or `local`.
    Raises LoginError. What could tell an unknown user from an unpermitted one is asked after the back end has spoken.
    """
    if not is_name(claim.authcid):
        raise LoginError(Verdict.REFUSED, "not-a-user-name")
    try:
        # Each time anew: what is there at the start may be gone by now, or have been missing and come.
        authenticator.check()
        authenticator.load()
    except AuthenticatorError as error:
        raise LoginError(Verdict.LATER, str(error)) from error
    identity = authenticator.verify(claim.authcid, claim.password, client)
    # RFC 4616, 2.: to act as somebody else is not for anyone here.
    if claim.authzid not in ("", claim.authcid, identity.name):
        raise LoginError(Verdict.REFUSED, "authorization-identity")
    if identity.uid == 0 and not authenticator.admits_root:
        raise LoginError(Verdict.REFUSED, "root")
    # %h stands at the beginning of paths: a relative one would be looked for wherever we are.
    if not identity.home.startswith("/"):
        raise LoginError(Verdict.REFUSED, "no-home-folder")
    if valid_users and not _is_listed(identity, valid_users):
        raise LoginError(Verdict.REFUSED, "not-in-validUser")
    return identity


def is_name(text: str) -> bool:
    """Whether this can be the name of a user, safe in paths, command lines and logs."""
    return 0 < len(text) <= 256 and text.isprintable() and "/" not in text and text[0] not in "-."


def _is_listed(identity: Identity, valid_users: Collection[str]) -> bool:
    groups = os.getgrouplist(identity.name, identity.gid)
    return any(
        _number_of(entry[1:]) in groups if entry.startswith("%") else entry == identity.name for entry in valid_users
    )


def _number_of(group: str) -> int | None:
    try:
        return grp.getgrnam(group).gr_gid
    except KeyError:
        # Nobody is in a group that does not exist.
        return None
