"""The `fetchmail:` source: smarthosts in the comments of a fetchmail run control file.

    poll mailbox.moon.test proto pop3 user "alice" pass "secret"
      #sendooway:server "mx.moon.test"
      #sendooway:tls
      #sendooway:address "alice@moon.test"

A comment belongs to the user of the entry in which it stands, and before the first user to that one. The first
`address` closes an account, more of them add to it; any other key then begins the next account of the same user.
A value with blanks stands in double quotes. In values, a backslash is a backslash.
"""

import re
from contextlib import suppress
from dataclasses import replace

from sendooway.accounts import fetchmailrc, pattern
from sendooway.accounts import password as passwords
from sendooway.accounts.account import Account, AccountsError, Credentials, FromNetrc, Password, Security, Unusable
from sendooway.accounts.entry import Entry, Listing, Retriever
from sendooway.accounts.fetchmailrc import Annotation, Poll, User
from sendooway.accounts.value import BadValue, at, parse_host, parse_password, parse_port, parse_username
from sendooway.auth.identity import Identity
from sendooway.origin import Origin
from sendooway.secret import Secret

_FLAGS = {"tls": "tls", "ssl": "ssl", "nocertcheck": "noCertCheck", "noauth": "noAuth", "gssapi": "gssapi"}
_VALUES = ("server", "port", "user", "pass", "passwordFrom", "address")
_KEYS = {**_FLAGS, **{key.lower(): key for key in _VALUES}}

_BLANKS = " \t\r\n"


def parse(text: str, file: str, owner: Identity) -> Listing:
    """The mailboxes of a file, as written, with their accounts. `text` is decoded from UTF-8 with `surrogateescape`.

    A mailbox without a user name is that of `owner`, as it is for fetchmail.

    Raises AccountsError, with the line, for what fetchmail itself would not read, and for an annotation with an
    unknown key or a bad value, an account without `server`, or one that no `address` closes.
    """
    run_control = fetchmailrc.parse(text, file)
    entries: list[Entry] = []
    for stretch in run_control.stray:
        entries += [Entry(draft.origin, _account(draft, None, owner)) for draft in _drafts(stretch, file)]
    for poll in run_control.polls:
        for user in poll.users:
            retriever = _retriever(poll, user, owner, file)
            drafts = _drafts(user.annotations, file)
            entries += [Entry(draft.origin, _account(draft, (poll, user), owner), retriever) for draft in drafts]
            if not drafts:
                entries.append(Entry(Origin(file, user.line), None, retriever))
    return Listing(entries=tuple(sorted(entries, key=lambda entry: entry.origin)))


def _retriever(poll: Poll, user: User, owner: Identity, file: str) -> Retriever:
    names = [here if there is None else (here, there) for here, there in user.local_names] or [owner.name]
    username = _remote(user, owner)
    password = user.password
    password_source = None
    with suppress(AccountsError):
        password_source = _mailbox_password(poll, user, owner, file)
    if password is None and poll.passwordless:
        password = Secret(username.encode("utf-8", "surrogateescape"))
    return Retriever(
        server=poll.server,
        via=poll.via,
        port=poll.port,
        protocol=poll.protocol,
        ssl=user.ssl,
        username=username,
        password=password,
        local_names=(*names, "*") if user.wildcard else tuple(names),
        password_source=password_source,
    )


def _mailbox_password(poll: Poll, user: User, owner: Identity, file: str) -> Password:
    """Where fetchmail takes the mailbox's password from, except that nobody is asked for it.

    Raises AccountsError for a `passwordfile` whose path is relative.
    """
    if user.password is not None:
        return user.password
    if user.password_file is not None:
        with at(Origin(file, user.line)):
            return passwords.parse(f"file:{user.password_file}", poll.server, "")
    hosts = (poll.server,) if poll.via is None else (poll.server, poll.via)
    return FromNetrc(hosts, _remote(user, owner))


def _remote(user: User, owner: Identity) -> str:
    return owner.name if user.remote is None else user.remote


class _Draft:
    """What the annotations of one account say; None and False where they say nothing."""

    def __init__(self, origin: Origin) -> None:
        self.origin = origin
        self.host: str | None = None
        self.port: int | None = None
        self.security: Security | None = None
        self.username: str | None = None
        self.password: Secret | None = None
        self.password_from: tuple[str, int] | None = None
        self.check_certificate = True
        self.password_login = True
        self.no_auth = False
        self.gssapi = False
        self.patterns: list[str] = []


def _drafts(annotations: tuple[Annotation, ...], file: str) -> list[_Draft]:
    drafts: list[_Draft] = []
    keys: set[str] = set()
    for annotation in annotations:
        try:
            key, value = _parse_annotation(annotation.text)
            if not drafts or (key != "address" and drafts[-1].patterns):
                drafts.append(_Draft(Origin(file, annotation.line)))
                keys.clear()
            if key in keys and key != "address":
                raise BadValue(f"#sendooway:{key} stands twice before the address that closes the account")
            keys.add(key)
            _set(drafts[-1], key, value, annotation.line)
        except BadValue as error:
            raise AccountsError(Origin(file, annotation.line), error.reason) from None
    return drafts


def _set(draft: _Draft, key: str, value: str, line: int) -> None:
    match key:
        case "server":
            draft.host = parse_host(value)
        case "port":
            draft.port = parse_port(value)
        case "user" if value == "":
            draft.password_login = False
        case "user":
            draft.username = parse_username(value)
        case "pass":
            draft.password = parse_password(value)
        case "passwordFrom":
            draft.password_from = (value, line)
        case "tls" | "ssl":
            if draft.security:
                raise BadValue("either #sendooway:tls (STARTTLS) or #sendooway:ssl (implicit TLS), not both")
            draft.security = Security.STARTTLS if key == "tls" else Security.SMTPS
        case "noCertCheck":
            draft.check_certificate = False
        case "noAuth" | "gssapi":
            draft.no_auth |= key == "noAuth"
            draft.gssapi |= key == "gssapi"
            if draft.no_auth and draft.gssapi:
                raise BadValue("either #sendooway:gssapi (log in with tickets) or #sendooway:noAuth, not both")
        case _:
            draft.patterns.append(pattern.parse(value))


def _parse_annotation(text: str) -> tuple[str, str]:
    """KEY [VALUE], as the key in its main spelling and the bare value (empty for a flag)."""
    word, *rest = re.split(r"[ \t\r]+", text.strip(_BLANKS), maxsplit=1)
    key = _KEYS.get(word.lower())
    if key is None:
        raise BadValue(f"unknown key after #sendooway: (one of {', '.join(_KEYS.values())})")
    value = rest[0] if rest else ""
    if word.lower() in _FLAGS:
        if value:
            raise BadValue(f"#sendooway:{key} takes no value")
    elif not value:
        raise BadValue(f'#sendooway:{key} needs a value (an empty one is "")')
    elif value.startswith('"'):
        if len(value) < 2 or not value.endswith('"'):
            raise BadValue(f"the value of #sendooway:{key} must end with its closing quote")
        value = value[1:-1]
    elif any(blank in value for blank in _BLANKS):
        raise BadValue(f"the value of #sendooway:{key} has blanks: put it in double quotes")
    return key, value


def _password(draft: _Draft, mailbox: tuple[Poll, User] | None, owner: Identity, username: str) -> Password | None:
    """The password that the annotations tell, else the mailbox's. None: there is none, or a ticket is enough."""
    if draft.password_from is None:
        if draft.password is not None or mailbox is None:
            return draft.password
        password = _mailbox_password(*mailbox, owner, draft.origin.file)
        # Without netrc a ticket is enough.
        return None if draft.gssapi and isinstance(password, FromNetrc) else password
    text, line = draft.password_from
    with at(Origin(draft.origin.file, line)):
        if draft.password is not None:
            raise BadValue("either #sendooway:pass or #sendooway:passwordFrom, not both")
        return passwords.parse(text, draft.host or "", username)


def _account(draft: _Draft, mailbox: tuple[Poll, User] | None, owner: Identity) -> Account | Unusable:
    """What the annotations say, completed by the mailbox that they stand in; None: they stand in none."""
    if not draft.patterns:
        raise AccountsError(draft.origin, "no #sendooway:address closes this account before its user's part ends")
    if draft.host is None:
        raise AccountsError(draft.origin, "#sendooway:server is missing before the address that closes this account")
    security = draft.security or Security.NONE
    account = Account(
        patterns=tuple(draft.patterns),
        host=draft.host,
        port=security.default_port if draft.port is None else draft.port,
        security=security,
        check_certificate=draft.check_certificate,
        credentials=None,
        origin=draft.origin,
        gssapi=draft.gssapi,
    )
    if draft.no_auth or not draft.password_login:
        return account
    username = draft.username
    if username is None and mailbox and (remote := _remote(mailbox[1], owner)):
        with at(Origin(draft.origin.file, mailbox[1].line)):
            username = parse_username(remote)
    password = _password(draft, mailbox, owner, username or "")
    if username is not None and password is not None:
        return replace(account, credentials=Credentials(username, password))
    if draft.gssapi:
        return account
    missing = ("user name", "user") if username is None else ("password", "pass")
    reason = "no {}: add #sendooway:{}, or #sendooway:noAuth, or `{}` to the fetchmail entry"
    return Unusable(account, reason.format(*missing, missing[1]), draft.origin, username or "", lacks_login=True)
