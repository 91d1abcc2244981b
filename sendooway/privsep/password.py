"""The passwords of a user's accounts, from where they are kept. It all happens with the user's own rights."""

import os
import pwd
import stat
from collections.abc import Callable, Mapping
from typing import assert_never

from sendooway.accounts import netrc
from sendooway.accounts.account import AccountsError, FromCommand, FromCredential, FromFile, FromNetrc, Password
from sendooway.accounts.password import first_line
from sendooway.auth.identity import Identity
from sendooway.log import Log
from sendooway.privsep import command
from sendooway.privsep.command import CommandError
from sendooway.privsep.time_limit import READ_SECONDS, TooLate, within
from sendooway.secret import Secret

_SESSIONS = "/run/user"


class PasswordError(Exception):
    """There is no password. The text says where it should come from and what is wrong there; it holds no secret.

    `remedy` says what helps, where that is known.
    """

    def __init__(self, reason: str, remedy: str = "") -> None:
        super().__init__(reason)
        self.remedy = remedy


class Passwords:
    """Fetches the passwords of a user's accounts.

    What a command prints is kept for the life of this object, unless it is `renew`ed. Files are read each time, which
    is cheap and never stale: `read` gives the text of the one at an absolute path, decoded from UTF-8 with
    `surrogateescape`, or raises FileNotFoundError or AccountsError. `credentials` are those of the service by name.
    """

    def __init__(self, user: Identity, read: Callable[[str], str], log: Log) -> None:
        self.credentials: Mapping[str, Secret] = {}
        self._user = user
        self._read = read
        self._log = log
        self._printed: dict[FromCommand, Secret] = {}

    def fetch(self, password: Password) -> Secret:
        """The password itself. Raises PasswordError."""
        match password:
            case Secret():
                return password
            case FromCommand():
                if password not in self._printed:
                    self._printed[password] = self._print(password)
                return self._printed[password]
            case FromFile(path):
                return self._first_line(self._expand(path))
            case FromNetrc(hosts, login, path):
                return self._from_netrc(hosts, login, self._expand(path))
            case FromCredential(name):
                if name not in self.credentials:
                    raise PasswordError(
                        f"the service has no credential {name}", "see LoadCredential= in systemd.exec(5)"
                    )
                return self.credentials[name]
        assert_never(password)

    def is_kept(self, password: Password) -> bool:
        """Whether `fetch` would give what it has kept from before."""
        return password in self._printed

    def renew(self, password: Password) -> bool:
        """Fetch a password that is kept anew; whether it has changed. Raises PasswordError, and forgets it then."""
        assert isinstance(password, FromCommand)
        before = self._printed.pop(password)
        return self.fetch(password) != before

    def _print(self, source: FromCommand) -> Secret:
        try:
            return command.run(source.arguments, environment(self._user), self._user.home, self._log)
        except CommandError as error:
            # Its arguments may be nobody else's business.
            raise PasswordError(f"the password's command {source.arguments[0]} {error}") from None

    def _first_line(self, path: str) -> Secret:
        found = first_line(self._text(path).encode("utf-8", "surrogateescape"))
        if found is None:
            raise PasswordError(f"{path}: the first line must be the password")
        return found

    def _from_netrc(self, hosts: tuple[str, ...], login: str, path: str) -> Secret:
        try:
            machines = netrc.parse(self._text(path), path)
        except AccountsError as error:
            raise PasswordError(str(error)) from None
        found = netrc.look_up(machines, hosts, login)
        if found is None:
            raise PasswordError(f"{path}: needs a line `machine {hosts[0]} login {login} password PASSWORD`")
        return found

    def _text(self, path: str) -> str:
        try:
            with within(READ_SECONDS):
                return self._read(path)
        except FileNotFoundError:
            raise PasswordError(f"{path}: no such file, and the password should be in it") from None
        except (AccountsError, TooLate) as error:
            raise PasswordError(str(error)) from None

    def _expand(self, path: str) -> str:
        return f"{self._user.home}/{path[2:]}" if path.startswith("~/") else path


def environment(user: Identity) -> dict[str, str]:
    """All that a password's command gets to know: who and where the user is, and where Kerberos tickets are."""
    try:
        shell = pwd.getpwuid(user.uid).pw_shell
    except KeyError:
        shell = ""
    variables = {
        "HOME": user.home,
        "USER": user.name,
        "LOGNAME": user.name,
        "SHELL": shell or "/bin/sh",
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "LANG": "C.UTF-8",
    }
    # Of the user's own session, if there is one: the socket of a keyring is there.
    folder = f"{_SESSIONS}/{user.uid}"
    if _is_own_folder(folder, user.uid):
        variables["XDG_RUNTIME_DIR"] = folder
    for name in ("KRB5_CONFIG", "KRB5CCNAME", "KRB5_CLIENT_KTNAME"):
        if name in os.environ:
            variables[name] = os.environ[name]
    return variables


def _is_own_folder(path: str, uid: int) -> bool:
    try:
        status = os.stat(path)
    except OSError:
        return False
    return stat.S_ISDIR(status.st_mode) and status.st_uid == uid
