"""`authBackend = none`: whoever runs the process may log in, with any password. For one's own machine."""

import os
import pwd

from sendooway.auth.identity import Identity, LoginError, Verdict
from sendooway.secret import Secret


def check() -> None:
    """There is nothing that could be missing."""


def load() -> None:
    """There is nothing to load."""


def verify(name: str, password: Secret, client: str) -> Identity:
    """The user who runs the process, if `name` is this user. Raises LoginError."""
    try:
        entry = pwd.getpwuid(os.getuid())
    except KeyError:
        raise LoginError(Verdict.LATER, f"uid {os.getuid()}, which runs sendooway, has no name") from None
    if name != entry.pw_name:
        raise LoginError(Verdict.REFUSED, "not-the-user-who-runs-sendooway")
    return Identity(entry.pw_name, entry.pw_uid, entry.pw_gid, entry.pw_dir)
