"""Who asks, and with which configuration."""

import os
import pwd
import ssl
from dataclasses import dataclass

from sendooway.accounts.account import AccountsError
from sendooway.accounts.lookup import expand
from sendooway.accounts.user_file import UserFiles
from sendooway.auth.identity import Identity
from sendooway.config import ConfigurationError, Mapping, Parsed, UserSettings
from sendooway.config.file import read
from sendooway.config.keywords import parse, parse_user_include
from sendooway.log import open_log
from sendooway.net.tls import TlsError, client_context
from sendooway.origin import Origin
from sendooway.privsep.password import Passwords

DEFAULT_CONFIGURATION = "/etc/sendooway.conf"


@dataclass(frozen=True)
class Situation:
    """What this user's agent would know: settings, and mappings in the order of search.

    `notes` are what the user should know about the configuration, one line each, without secrets.
    """

    user: Identity
    settings: UserSettings
    mappings: tuple[Mapping, ...]
    files: UserFiles
    passwords: Passwords
    notes: tuple[str, ...]

    def trusted(self) -> ssl.SSLContext:
        """The context for connections to smarthosts. Raises ConfigurationError if sslCA cannot be used."""
        try:
            return client_context(self.settings.ssl_ca)
        except TlsError as error:
            raise ConfigurationError(Origin(self.settings.ssl_ca, 0), "sslCA", str(error)) from None


def who_asks() -> Identity:
    """The user who runs the process, with the home folder that the user database names, as for an agent.

    Raises ConfigurationError for one whom the database does not know.
    """
    try:
        entry = pwd.getpwuid(os.getuid())
    except KeyError:
        raise ConfigurationError(Origin("user database", 0), "", f"the user {os.getuid()} is not in it") from None
    return Identity(entry.pw_name, entry.pw_uid, entry.pw_gid, entry.pw_dir)


def survey(config: str | None, user: Identity) -> Situation:
    """Read the configuration `config` (None: the system's, as far as the user may read it) and the user's own one.

    Raises ConfigurationError, also where a rule about files is broken that an agent would refuse all look-ups for.
    """
    notes: list[str] = []
    if (home := os.environ.get("HOME")) and os.path.abspath(home) != os.path.abspath(user.home):
        notes.append(f"HOME is {home}, but Sendooway looks in {user.home}, which the user database names")
    path = config or DEFAULT_CONFIGURATION
    parsed = _global(path, required=config is not None, notes=notes)
    files = UserFiles(user.uid)
    settings, own = _own(parsed, user, files, notes)
    passwords = Passwords(user, files.read, open_log("&2"))
    return Situation(user, settings, own + parsed.mappings, files, passwords, tuple(notes))


def _global(path: str, *, required: bool, notes: list[str]) -> Parsed:
    if not required and not os.access(path, os.R_OK):
        if os.path.lexists(path):
            notes.append(
                f"you may not read {path}: its settings and mappings, which count when you send, are unknown here, and "
                "the defaults are shown; name a copy that you may read with -c"
            )
        return parse("", path, os.uname().nodename)
    parsed = parse(read(path), path, os.uname().nodename)
    notes += parsed.warnings
    return parsed


def _own(
    parsed: Parsed, user: Identity, files: UserFiles, notes: list[str]
) -> tuple[UserSettings, tuple[Mapping, ...]]:
    settings = parsed.configuration.user_settings
    template = parsed.configuration.user_include
    if not template:
        return settings, ()
    try:
        own = expand(template, user, parsed.origins["userInclude"])
        settings, mappings, warnings = parse_user_include(files.read(own), own, settings)
    except FileNotFoundError:
        return settings, ()
    except AccountsError as error:
        raise ConfigurationError(error.origin, "", error.reason) from None
    notes += warnings
    return settings, mappings


def tilde(path: str, user: Identity) -> str:
    """A path, shorter where it is below the home folder."""
    home = user.home.rstrip("/")
    return f"~{path.removeprefix(home)}" if home and path.startswith(f"{home}/") else path
