"""The credentials that systemd gives to the service (systemd.exec(5)), for accounts of the administrator.

They are in a folder that only root can read, so they are read together with the configuration, before anybody logs in.
"""

import os
from collections.abc import Iterable

from sendooway.accounts import direct
from sendooway.accounts.account import AccountsError, FromCredential
from sendooway.accounts.password import first_line
from sendooway.config import Mapping
from sendooway.log import Log
from sendooway.secret import Secret

FOLDER = "CREDENTIALS_DIRECTORY"
LIMIT = 4096  # octets


def read(mappings: Iterable[Mapping], log: Log) -> dict[str, Secret]:
    """The first line of each credential that the mappings name. The log is told of those that cannot be had."""
    found: dict[str, Secret] = {}
    for name in _named(mappings):
        try:
            found[name] = _read(name)
        except (OSError, ValueError) as error:
            log.warning("no-credential", name=name, reason=getattr(error, "strerror", None) or str(error))
    return found


def _named(mappings: Iterable[Mapping]) -> set[str]:
    names = set()
    for mapping in mappings:
        if mapping.source != "direct":
            continue
        try:
            (account,) = direct.parse(mapping.argument.octets.decode("utf-8", "surrogateescape"), mapping.origin)
        except AccountsError:
            # The mail that needs it will hear of it.
            continue
        if account.credentials and isinstance(account.credentials.password, FromCredential):
            names.add(account.credentials.password.name)
    return names


def _read(name: str) -> Secret:
    """Raises OSError, and ValueError that says what would be right."""
    folder = os.environ.get(FOLDER)
    if not folder:
        raise ValueError(f"there is no {FOLDER}: start sendooway by systemd, with LoadCredential= in its unit")
    with open(os.path.join(folder, name), "rb") as file:
        octets = file.read(LIMIT + 1)
    password = first_line(octets)
    if len(octets) > LIMIT or password is None:
        raise ValueError(f"its first line must be the password, and it must have at most {LIMIT} octets")
    return password
