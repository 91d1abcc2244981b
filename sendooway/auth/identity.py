"""Who logged in, and how a login can end."""

import pwd
from dataclasses import dataclass
from enum import Enum


@dataclass(frozen=True)
class Identity:
    """A local user, as the system's user database or the directory names it (never as it was typed)."""

    name: str
    uid: int
    gid: int
    home: str


class Verdict(Enum):
    """The answers other than yes, with the replies that SMTP has for them. CROWDED is the monitor's, the others a back
    end's."""

    REFUSED = "refused"  # wrong password, unknown or unpermitted user: 535 5.7.8
    LATER = "later"  # the back end is out of order: 454 4.7.0
    MALFORMED = "malformed"  # the mechanism's message is: 501 5.5.2
    CROWDED = "crowded"  # the login is right, and one session too many of this user: 454 4.7.0


class LoginError(Exception):
    """The login is not granted. `verdict` decides the reply; `reason` and `remedy` are for the log and hold no secret.

    `remedy` says what helps, empty where that is not known.
    """

    def __init__(self, verdict: Verdict, reason: str, remedy: str = "") -> None:
        super().__init__(reason)
        self.verdict = verdict
        self.reason = reason
        self.remedy = remedy


class AuthenticatorError(Exception):
    """No login can be checked: something is not installed or not set up. The text says what to do."""


def local_identity(name: str) -> Identity:
    """The user whom the system's database has by this name. Raises LoginError."""
    try:
        entry = pwd.getpwnam(name)
    except KeyError:
        raise LoginError(Verdict.REFUSED, "no-local-account") from None
    return Identity(entry.pw_name, entry.pw_uid, entry.pw_gid, entry.pw_dir)
