"""`authBackend = LDAP`: a simple bind as `ldapAuthDN`, and the attributes of a posixAccount (RFC 2307) in that entry.

No process with root's rights reads what comes from the network, so a child without rights asks the servers. What it
answers is checked here, as it may be the network's own word.
"""

import contextlib
import json
import os
import pwd
import re
from collections.abc import Mapping

from sendooway.auth.identity import AuthenticatorError, Identity, LoginError, Verdict
from sendooway.config import Configuration, ldap_uri
from sendooway.secret import Secret
from sendooway.unix import privileges, process
from sendooway.unix.privileges import PrivilegeError
from sendooway.unix.run_as import RunAsError, network_user

SERVER_SECONDS = 8.0  # for one server, from its address to the entry
SECONDS = 25.0  # for all of them

ATTRIBUTES = ("uid", "uidNumber", "gidNumber", "homeDirectory")

_MAX_ANSWER_OCTETS = 65536  # octets

# Below the least one of login.defs(5), ids are the system's; above these lie the dynamic users of systemd, and nobody.
_LEAST_DEFAULT = 1000
_NOT_PEOPLE = range(61184, 65536)
_MAX_NUMBER = 2**31 - 1
_USERS = 100  # the group `users` of many systems, which everybody is in

Answer = Mapping[str, object]


def check(configuration: Configuration) -> None:
    """Raise AuthenticatorError if there is no user (`runAs`) who may talk to the servers."""
    try:
        if os.geteuid() == 0:
            network_user(configuration.run_as)
    except RunAsError as error:
        raise AuthenticatorError(str(error)) from error


def load() -> None:
    """Import what a child needs."""
    import encodings.idna  # noqa: F401  for names of hosts; without rights it could not be imported any more

    from sendooway.ldap import client  # noqa: F401  TLS takes 20 ms, and other back ends need none of it


def verify(configuration: Configuration, name: str, password: Secret, client: str) -> Identity:
    """The user whom the first server that answers knows by this name and password. `client` does not matter.

    The name has to be one that `login.is_name` lets through. It forks: call it where there is one thread. Raises
    LoginError.
    """
    # It would be an anonymous bind, which succeeds whoever the user is (RFC 4513, 5.1.2).
    if not password.octets:
        raise LoginError(Verdict.REFUSED, "empty-password")
    answer = _ask(configuration, format_dn(configuration.ldap_auth_dn, name), password)
    match answer:
        case {"entry": dict(attributes)}:
            identity = to_identity(name, attributes)
            require_distinct(identity)
            return identity
        case {"refused": str(reason)}:
            raise LoginError(Verdict.REFUSED, reason)
        case {"later": str(reason)}:
            raise LoginError(Verdict.LATER, reason)
        case _:
            raise LoginError(Verdict.LATER, "the process that asks the LDAP servers ended, or took too long")


def format_dn(template: str, name: str) -> str:
    """The DN that `ldapAuthDN` makes of a user's name. Whatever is in the name, it stays one attribute value.

    All but letters, digits and three signs is escaped as octets (RFC 4514, 2.4), which is allowed for every character.
    """
    value = "".join(
        chr(octet) if re.fullmatch(r"[A-Za-z0-9_.-]", chr(octet)) else f"\\{octet:02x}" for octet in name.encode()
    )
    return re.sub("%[u%]", lambda sequence: value if sequence[0] == "%u" else "%", template)


def to_identity(name: str, attributes: Mapping[str, object]) -> Identity:
    """The user of an entry, whose attribute names are in lower case. Raises LoginError if it is no entry of a person of
    this name with a usable home."""
    # A server compares names without case; what it has is the name.
    names = [value for value in _values(attributes, "uid") if value.lower() == name.lower()]
    if not names:
        raise LoginError(Verdict.REFUSED, "the entry's uid is another one", "the RDN in ldapAuthDN has to be uid=%u")
    home = _single(attributes, "homeDirectory")
    if not home.startswith("/") or not home.isprintable() or ".." in home.split("/"):
        raise LoginError(Verdict.REFUSED, "the entry's homeDirectory is not an absolute path")
    return Identity(
        name if name in names else names[0],
        _number(attributes, "uidNumber", "UID_MIN"),
        _number(attributes, "gidNumber", "GID_MIN"),
        home,
    )


def _values(attributes: Mapping[str, object], attribute: str) -> list[str]:
    values = attributes.get(attribute.lower())
    if not isinstance(values, list) or not values:
        raise LoginError(
            Verdict.REFUSED,
            f"the entry has no {attribute}",
            "is it a posixAccount, and may users read their own entry?",
        )
    return [str(value) for value in values]


def _single(attributes: Mapping[str, object], attribute: str) -> str:
    value, *others = _values(attributes, attribute)
    if others:
        raise LoginError(Verdict.REFUSED, f"the entry has more than one {attribute}")
    return value


def _number(attributes: Mapping[str, object], attribute: str, keyword: str) -> int:
    text = _single(attributes, attribute)
    # isdecimal() alone is true for digits of all scripts.
    if not (text.isascii() and text.isdecimal() and len(text) <= len(str(_MAX_NUMBER))):
        raise LoginError(Verdict.REFUSED, f"the entry's {attribute} is no number")
    number = int(text)
    if attribute == "gidNumber" and number == _USERS:
        return number
    if not least(keyword) <= number <= _MAX_NUMBER or number in _NOT_PEOPLE:
        raise LoginError(
            Verdict.REFUSED,
            f"the entry's {attribute} {number} is none of a person",
            f"people's begin at {keyword} of /etc/login.defs",
        )
    return number


def least(keyword: str, path: str = "/etc/login.defs") -> int:
    """The least uid or gid of a person: what login.defs(5) says for UID_MIN or GID_MIN (`keyword`), else 1000."""
    with contextlib.suppress(OSError), open(path, encoding="utf-8", errors="replace") as file:
        for line in file:
            words = line.split()
            if words[:1] == [keyword] and len(words) > 1 and words[1].isdecimal():
                # Not even a file that says so makes it root.
                return max(1, int(words[1]))
    return _LEAST_DEFAULT


def require_distinct(identity: Identity) -> None:
    """Raise LoginError for a user of the directory who would have the rights of another user of this system: by the
    same number, or by the groups of the same name."""
    # To become another user, one has to be root.
    if os.geteuid() not in (0, identity.uid):
        raise LoginError(Verdict.REFUSED, "not-the-user-who-runs-sendooway")
    with contextlib.suppress(KeyError):
        if pwd.getpwnam(identity.name).pw_uid != identity.uid:
            raise LoginError(Verdict.REFUSED, "a user of this system has the name, with another uidNumber")
    with contextlib.suppress(KeyError):
        if pwd.getpwuid(identity.uid).pw_name != identity.name:
            raise LoginError(Verdict.REFUSED, "a user of this system has the uidNumber, with another name")


def _ask(configuration: Configuration, dn: str, password: Secret) -> Answer | None:
    """What a child learns from the servers, see `_answer`; None if it says nothing."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            # Through another descriptor the secrets of the configuration could be read.
            process.close_all_but({0, 1, 2, writing})
            with open(writing, "wb") as pipe:
                pipe.write(json.dumps(_answer(configuration, dn, password)).encode("ascii"))
        finally:
            os._exit(0)
    os.close(writing)
    octets = process.last_words(pid, reading, SECONDS + 1, _MAX_ANSWER_OCTETS)
    try:
        answer = json.loads(octets or b"")
    except (ValueError, RecursionError):
        return None
    return answer if isinstance(answer, dict) else None


def _answer(configuration: Configuration, dn: str, password: Secret) -> Answer:
    """In the child, what the servers say: `entry` with the values of each attribute, or the reason why the login is
    `refused`, or cannot be checked now (`later`)."""
    from sendooway.ldap.client import BindRefused, LdapError, read_own_entry
    from sendooway.net import tls
    from sendooway.net.deadline import Deadline

    ca = configuration.ldap_ssl_ca or configuration.user_settings.ssl_ca
    try:
        # Still as root, which may be the only one to read the file.
        context = tls.client_context(ca)
        _drop_rights(configuration.run_as)
    except (tls.TlsError, PrivilegeError, RunAsError) as error:
        return {"later": str(error)}
    deadline = Deadline(SECONDS)
    failures = []
    for text in configuration.ldap_uri:
        server = ldap_uri.parse(text)
        try:
            entry = read_own_entry(server, dn, password, ATTRIBUTES, context, deadline.sooner(SERVER_SECONDS))
            return {"entry": {name: [value.decode() for value in values] for name, values in entry.items()}}
        except BindRefused as error:
            return {"refused": "credentials" if error.code in (32, 49) else f"by {server}: {error}"}
        except LdapError as error:
            failures.append(f"{server}: {error}")
        except UnicodeDecodeError:
            return {"refused": "the entry is not in UTF-8"}
        except TimeoutError:
            failures.append(f"{server}: not asked, as the others took {SECONDS:g} seconds")
    return {"later": "; ".join(failures)}


def _drop_rights(run_as: str) -> None:
    """Become the user who may talk to the network, for good. Raises PrivilegeError and RunAsError."""
    if os.geteuid() == 0:
        entry = network_user(run_as)
        privileges.drop_to(entry.pw_uid, entry.pw_gid, None)
    else:
        privileges.drop_to(os.geteuid(), os.getegid(), None)
    privileges.confine_files()
