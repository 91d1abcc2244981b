"""Who may log in: what holds for every back end, around what each of them says."""

import contextlib
import grp
import os
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import partial

from sendooway import one_file
from sendooway.auth import ldap, none, pam, principal
from sendooway.auth.identity import AuthenticatorError, Identity, LoginError, Verdict, local_identity
from sendooway.auth.principal import PrincipalError
from sendooway.config import Backend, Configuration
from sendooway.sasl import GSSAPI, PasswordLogin, TicketLogin
from sendooway.secret import Secret


def _nothing() -> None:
    pass


@dataclass(frozen=True)
class Authenticator:
    """A back end.

    `check` is quick and raises AuthenticatorError if it is not set up; `load` imports what it needs, takes its time
    only once, and raises the same; `verify(name, password, client)` gives the identity or raises LoginError. So does
    `recognise(name, client)` for a user who has proved the password a while ago; None: it has to be proved each time.
    `hold` follows `load`, and spares the processes that are forked from then on what each check would load anew.
    `admits_root`: root may log in.
    """

    check: Callable[[], None]
    load: Callable[[], None]
    verify: Callable[[str, Secret, str], Identity]
    recognise: Callable[[str, str], Identity] | None = None
    hold: Callable[[], None] = _nothing
    admits_root: bool = False


AUTHENTICATORS: dict[Backend, Callable[[Configuration], Authenticator]] = {
    Backend.PAM: lambda _: Authenticator(pam.check, pam.load, pam.verify, pam.recognise, pam.hold),
    Backend.LDAP: lambda configuration: Authenticator(
        partial(ldap.check, configuration), ldap.load, partial(ldap.verify, configuration)
    ),
    # Whoever runs the process may log in, whoever that is.
    Backend.NONE: lambda _: Authenticator(none.check, none.load, none.verify, admits_root=True),
}


def check(configuration: Configuration) -> None:
    """Quick. Raises AuthenticatorError if something that logins need is not set up."""
    for authenticator in _needed(configuration):
        authenticator.check()


def load(configuration: Configuration) -> None:
    """Import what passwords need, and unpack what the first ticket will import. Raises AuthenticatorError."""
    for authenticator in _needed(configuration):
        authenticator.load()
        authenticator.hold()
    if GSSAPI in configuration.auth_mechanisms:
        # Now, with the rights of this process. If it fails, `snapshot` has logged that and offers no GSSAPI.
        with contextlib.suppress(one_file.UnpackError):
            one_file.unpack()


def _needed(configuration: Configuration) -> list[Authenticator]:
    """The back ends that logins can come to: that of passwords, and PAM where it has a say on tickets."""
    mechanisms = set(configuration.auth_mechanisms)
    backends = {configuration.auth_backend} if mechanisms - {GSSAPI} else set()
    if GSSAPI in mechanisms and _asks_pam_account(configuration):
        backends.add(Backend.PAM)
    return [AUTHENTICATORS[backend](configuration) for backend in backends]


def _asks_pam_account(configuration: Configuration) -> bool:
    if configuration.krb5_pam_account is None:
        return configuration.auth_backend is Backend.PAM
    return configuration.krb5_pam_account


def verify(
    claim: PasswordLogin,
    authenticator: Authenticator,
    valid_users: Collection[str],
    client: str,
    *,
    remembered: bool = False,
) -> Identity:
    """The user that a client proves to be, or did prove to be a while ago (`remembered`), if this user may log in.

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
    if remembered and authenticator.recognise is not None:
        identity = authenticator.recognise(claim.authcid, client)
    else:
        identity = authenticator.verify(claim.authcid, claim.password, client)
    # RFC 4616, 2.: to act as somebody else is not for anyone here.
    if claim.authzid not in ("", claim.authcid, identity.name):
        raise LoginError(Verdict.REFUSED, "authorization-identity")
    _permit(identity, valid_users, admits_root=authenticator.admits_root)
    return identity


def verify_ticket(claim: TicketLogin, configuration: Configuration, client: str) -> Identity:
    """The user that the owner of a ticket acts as, if krb5.conf, the user's .k5login and validUser permit it.

    `client` as in `verify`. Call it where there is one thread. Raises LoginError.
    """
    try:
        name = claim.authzid or principal.to_local(claim.principal)
        if name is None:
            raise LoginError(Verdict.REFUSED, "no-local-user (by auth_to_local of krb5.conf)")
        identity = _known(name)
        _permit(identity, configuration.valid_users, admits_root=False)
        # To become another user, one has to be root.
        if os.geteuid() not in (0, identity.uid):
            raise LoginError(Verdict.REFUSED, "not-the-user-who-runs-sendooway")
        if not principal.may_act_as(claim.principal, identity):
            raise LoginError(Verdict.REFUSED, f"not-permitted-as {name} (by .k5login, or auth_to_local of krb5.conf)")
    except PrincipalError as error:
        raise LoginError(Verdict.REFUSED, str(error)) from error
    if _asks_pam_account(configuration):
        try:
            pam.check()
            pam.load()
        except AuthenticatorError as error:
            raise LoginError(Verdict.LATER, f"{error}; or set `krb5PamAccount = no`") from error
        pam.check_account(identity.name, client)
    return identity


def _known(name: str) -> Identity:
    if not is_name(name):
        raise LoginError(Verdict.REFUSED, "not-a-user-name")
    return local_identity(name)


def _permit(identity: Identity, valid_users: Collection[str], *, admits_root: bool) -> None:
    """Raises LoginError for a user who may not log in, however it was proved."""
    if identity.uid == 0 and not admits_root:
        raise LoginError(Verdict.REFUSED, "root")
    # %h stands at the beginning of paths: a relative one would be looked for wherever we are.
    if not identity.home.startswith("/"):
        raise LoginError(Verdict.REFUSED, "no-home-folder")
    if valid_users and not _is_listed(identity, valid_users):
        raise LoginError(Verdict.REFUSED, "not-in-validUser")


def is_name(text: str) -> bool:
    """Whether `text`, as it was typed, can be the name of a user and is safe in paths, command lines and logs."""
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
