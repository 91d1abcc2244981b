"""What an agent does once it is the user: the settings and accounts of this user, and the logins at smarthosts.

It all happens with the user's own rights: whatever the user's files are, they harm nobody else.
"""

import os
import stat
from functools import lru_cache, partial

from sendooway.accounts.account import Account, AccountsError, FromCommand, FromCredential, NoAccount
from sendooway.accounts.entry import Entry
from sendooway.accounts.lookup import expand, find_mailbox, look_up
from sendooway.accounts.user_file import UserFiles
from sendooway.auth.identity import Identity
from sendooway.config import ConfigurationError, Mapping, UserSettings
from sendooway.config.keywords import parse_user_include
from sendooway.log import Log
from sendooway.origin import Origin
from sendooway.privsep import guess
from sendooway.privsep.fingerprint import fingerprint
from sendooway.privsep.guess import GuessError
from sendooway.privsep.messages import (
    MAX_CA_OCTETS,
    MAX_REASON,
    AccountFound,
    AccountMissing,
    LookUpFailed,
    ProtocolError,
    SaslResponse,
    SaslUnavailable,
)
from sendooway.privsep.password import PasswordError, Passwords
from sendooway.privsep.smarthost_login import SmarthostLogin, describe
from sendooway.privsep.snapshot import Snapshot
from sendooway.privsep.time_limit import READ_SECONDS, TooLate, within
from sendooway.sasl import ContextError
from sendooway.secret import Secret

# The client's reply has no room for more, and a datagram neither.
MAX_SEARCHED = 30

FINGERPRINTS = 32  # that are remembered, with the passwords in them


class Holdings:
    """What all sessions of a user have in common in one process: the files read so far, and the global mappings."""

    def __init__(self, identity: Identity, snapshot: Snapshot) -> None:
        self.identity = identity
        self.path = snapshot.path
        self.configuration = snapshot.configuration
        self.files = UserFiles(identity.uid)
        secrets = snapshot.secrets()
        self.mappings = secrets.mappings
        self.credentials = secrets.credentials
        # It takes longer than all else that a look-up does.
        self.fingerprint = lru_cache(FINGERPRINTS)(partial(fingerprint, snapshot.key, identity))
        snapshot.close()


class User:
    """The user that this process is now, in one session.

    `settings` are the global ones, with what the user's own file (`userInclude`) changes. `own_ca` is a descriptor of
    trusted certificates that has to go out beside the next answer: of the user's own, or an account's. A file
    that cannot be used refuses no login, but each look-up: a line that we do not understand may be the one that keeps a
    mail from the wrong smarthost.
    """

    def __init__(self, holdings: Holdings, log: Log, tickets: object | None) -> None:
        self._holdings = holdings
        self._identity = holdings.identity
        self._log = log
        self._tickets = tickets
        self._broken: str | None = None
        self._own_mappings: tuple[Mapping, ...] = ()
        # By their number, which names them to the proxy.
        self._accounts: list[Account] = []
        self._last: Account | None = None
        self._login: SmarthostLogin | None = None
        self._guessed: dict[Entry, Account] = {}
        self._client_keytab = ""
        self._warned: set[str] = set()  # files of which the log has said that others may read them
        self._passwords = Passwords(self._identity, self._read_secret, log)
        self.settings: UserSettings = holdings.configuration.user_settings
        self.own_ca: int | None = None
        try:
            with within(READ_SECONDS):
                self._include()
                self._client_keytab = self._expand_keytab()
                self._open_own_ca()
        except (AccountsError, ConfigurationError, TooLate) as error:
            self._broken = str(error)[:MAX_REASON]
            log.error("settings-refused", user=self._identity.name, reason=self._broken)

    def look_up(self, reverse_path: str, *, ahead: bool = False) -> AccountFound | AccountMissing | LookUpFailed:
        """The account that serves the sender; empty: the null reverse-path. `ahead`: see LookUp."""
        if self._broken is not None:
            return LookUpFailed(self._broken)
        questions = self._holdings.files.questions
        try:
            account = self._find(reverse_path)
            if account.ca_file:
                with within(READ_SECONDS):
                    self.own_ca = _open_ca(account.ca_file, "tls_trust_file")
        except NoAccount as error:
            return AccountMissing(_shortened(error.searched))
        except (AccountsError, TooLate) as error:
            return LookUpFailed(str(error)[:MAX_REASON])
        if account not in self._accounts:
            self._accounts.append(account)
        if not ahead:
            self._last = account
        if account.credentials is not None and isinstance(account.credentials.password, Secret):
            self._warn_of(account.origin.file)
        fingerprint = self._fingerprint(account)
        lasting = self._holdings.files.questions == questions and not account.ca_file
        return describe(account, self._identity, self._accounts.index(account), fingerprint, lasting=lasting)

    def _find(self, reverse_path: str) -> Account:
        """Raises NoAccount, AccountsError, TooLate."""
        mappings = self._mappings()
        try:
            with within(READ_SECONDS):
                account = look_up(reverse_path, mappings, self._identity, self._holdings.files, self._last)
                self._protect_credentials(account)
                return account
        except NoAccount:
            if not self.settings.guess_accounts or (guessed := self._guess(reverse_path)) is None:
                raise
            return guessed

    def _guess(self, reverse_path: str) -> Account | None:
        """The account of a mailbox that has none. Raises AccountsError, TooLate."""
        mappings = self._mappings()
        with within(READ_SECONDS):
            entry = find_mailbox(reverse_path, mappings, self._identity, self._holdings.files)
        if entry is None:
            return None
        if entry not in self._guessed:
            try:
                found = guess.find(reverse_path, self.settings, self._log)
            except GuessError as error:
                raise AccountsError(entry.origin, f"no smarthost for this mailbox: {error}") from None
            if found is None:
                return None
            self._log.event(
                "smarthost-found",
                user=self._identity.name,
                sender=f"<{reverse_path}>",
                smarthost=f"{found.host}:{found.port}",
                source=found.source,
                origin=str(entry.origin),
            )
            self._guessed[entry] = guess.account(reverse_path, entry, found)
        return self._guessed[entry]

    def _protect_credentials(self, account: Account) -> None:
        """Raises AccountsError if a user wants to have a credential of the service sent to a host of the own choice."""
        if account.credentials is None or not isinstance(account.credentials.password, FromCredential):
            return
        if account.origin not in {mapping.origin for mapping in self._holdings.mappings}:
            raise AccountsError(account.origin, "only a mapping of the administrator may take a credential")

    def _fingerprint(self, account: Account) -> bytes:
        """Empty where connections of this account are for this session only."""
        if account.gssapi or account.ca_file or self._trusts_own_ca():
            # A ticket is this session's; and what the user trusts may change within the file.
            return b""
        password = None
        # A command takes its time, and what it printed may be for one use only.
        if account.credentials is not None and not isinstance(account.credentials.password, FromCommand):
            try:
                password = self._passwords.fetch(account.credentials.password)
            except PasswordError:
                return b""  # and the login will fail
        return self._holdings.fingerprint(self.settings, account, password)

    def begin_sasl(
        self, number: int, offered: tuple[str, ...], refused: tuple[str, ...]
    ) -> SaslResponse | SaslUnavailable:
        """Begin a login with account `number`, or go on with it after the mechanisms `refused`.

        Raises ProtocolError for an account that was not found or has no login.
        """
        if not 0 <= number < len(self._accounts) or not self._accounts[number].logs_in:
            raise ProtocolError("a SaslBegin for an account that it cannot be for")
        account = self._accounts[number]
        if self._login is None or not refused or self._login.account is not account:
            self._login = SmarthostLogin(
                account, self.settings, self._passwords, self._tickets, self._client_keytab, self._warn_of_login
            )
        return self._login.begin(offered, refused)

    def _warn_of_login(self, account: Account, error: ContextError | PasswordError) -> None:
        self._log.warning(
            "no-ticket" if isinstance(error, ContextError) else "no-password",
            user=self._identity.name,
            smarthost=account.host,
            reason=str(error),
            remedy=error.remedy or None,
        )

    def continue_sasl(self, challenge: bytes) -> SaslResponse | SaslUnavailable:
        """Answer a challenge of the smarthost. Raises ProtocolError if no login was begun."""
        if self._login is None:
            raise ProtocolError("a SaslContinue without a login")
        return self._login.respond(challenge)

    def _read_secret(self, path: str) -> str:
        text = self._holdings.files.read(path)
        self._warn_of(path)
        return text

    def _warn_of(self, path: str) -> None:
        """Say once for each login that others may read the file that a password is in."""
        if path in self._holdings.files.exposed and path not in self._warned:
            self._warned.add(path)
            self._log.warning("password-exposed", user=self._identity.name, file=path, reason="others may read it")

    def _mappings(self) -> tuple[Mapping, ...]:
        """The user's own first, then the global ones."""
        self._passwords.credentials = self._holdings.credentials
        return self._own_mappings + self._holdings.mappings

    def _include(self) -> None:
        template = self._holdings.configuration.user_include
        if not template:
            return
        path = expand(template, self._identity, Origin(self._holdings.path, 0))
        try:
            text = self._holdings.files.read(path)
        except FileNotFoundError:
            # Most users have no such file.
            return
        self.settings, self._own_mappings, warnings = parse_user_include(text, path, self.settings)
        for warning in warnings:
            self._log.warning("configuration", user=self._identity.name, reason=warning)

    def _expand_keytab(self) -> str:
        origin = Origin(self._holdings.path, 0)
        path = expand(self.settings.krb5_client_keytab, self._identity, origin)
        if path and not path.startswith("/"):
            raise AccountsError(origin, "krb5ClientKeytab must be an absolute path, such as %h/FILE")
        return path

    def _trusts_own_ca(self) -> bool:
        return self.settings.ssl_ca not in ("", self._holdings.configuration.user_settings.ssl_ca)

    def _open_own_ca(self) -> None:
        if self._trusts_own_ca():
            self.own_ca = _open_ca(self.settings.ssl_ca, "sslCA")


def _open_ca(path: str, keyword: str) -> int:
    """A descriptor of what is in the file of trusted certificates that `keyword` names. Raises AccountsError.

    It is of memory. The file itself may be on a file system that answers late or never, by the user's own will, too:
    then this process waits for it, and not the proxy.
    """
    origin = Origin(path, 0)
    try:
        # Not blocking: a FIFO would wait for a writer for ever.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode) or status.st_size > MAX_CA_OCTETS:
                raise AccountsError(origin, f"{keyword} must be a regular file of at most {MAX_CA_OCTETS} octets")
            return _copy(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise AccountsError(origin, f"{keyword} cannot be read: {error.strerror}") from error


def _copy(descriptor: int) -> int:
    """A descriptor of memory with what is in a file, or one octet more than MAX_CA_OCTETS."""
    octets = b""
    while len(octets) <= MAX_CA_OCTETS and (piece := os.read(descriptor, MAX_CA_OCTETS + 1 - len(octets))):
        octets += piece
    memory = os.memfd_create("certificates", os.MFD_CLOEXEC)
    try:
        with open(memory, "wb", closefd=False) as file:
            file.write(octets)
    except OSError:
        os.close(memory)
        raise
    return memory


def _shortened(searched: tuple[str, ...]) -> tuple[str, ...]:
    more = len(searched) - MAX_SEARCHED
    names = tuple(name[:MAX_REASON] for name in searched[:MAX_SEARCHED])
    return (*names, f"and {more} more") if more > 0 else names
