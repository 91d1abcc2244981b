"""What fetchmail reads in its run control file: its grammar, as fetchmail 6.4 has it.

    file       = *statement
    statement  = "set" global-option / entry
    entry      = ("poll" / "skip") string *server-option [users] / "defaults" *server-option [users]
    users      = 1*user-option / 1*("user" name *user-option)
    name       = string ["there"] / local-names "here"

Words are apart by blanks, line ends and `, ; :`. Some words are noise. `user`, `pass`, `is`, `to` and `=` make a string
of the next word, whatever it is. The comments that begin with `#sendooway:` are kept, with the user they stand in.

A comment needs its line end: without one, at the end of a file, its words are strings. Two things are errors here that
fetchmail accepts: such strings where they read `#sendooway:`, and a second user in `defaults`, of which it makes a
server without a name. And one thing goes here that only a newer fetchmail knows: `passwordfile`.
"""

import re
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field

from sendooway.accounts.account import AccountsError
from sendooway.accounts.fetchmail_words import (
    GLOBAL_OPTIONS,
    PASSWORDLESS,
    SERVER_OPTIONS,
    USER_OPTIONS,
    Argument,
    Kind,
    scan,
)
from sendooway.origin import Origin
from sendooway.secret import Secret

# Far more than anybody has, and few enough to be read in a moment.
MAX_MAILBOXES = 20000


@dataclass(frozen=True, slots=True)
class Annotation:
    """A comment `#sendooway:TEXT` in the line `line`. TEXT may hold a password."""

    text: str = field(repr=False)
    line: int


@dataclass(frozen=True, slots=True)
class User:
    """One mailbox of an entry, with what it takes over from the entry and from the file's defaults.

    `remote` is the login name at the server, None where fetchmail would use the name of the local user. `local_names`
    are (name here, None) or (name there, name here); `wildcard` says that `*` is among them. `annotations` stand in
    this user's part of the file, which for the first user begins at the head of the entry.
    """

    remote: str | None
    password: Secret | None
    password_file: str | None
    local_names: tuple[tuple[str, str | None], ...]
    wildcard: bool
    ssl: bool
    annotations: tuple[Annotation, ...]
    line: int


@dataclass(frozen=True, slots=True)
class Poll:
    """One server entry; it has at least one user. `port` is a number or the name of a service, as written.

    `passwordless`: fetchmail gives the user's name as the password where there is none, as it will not be asked for it.
    """

    server: str
    via: str | None
    skip: bool
    protocol: str
    port: str | None
    passwordless: bool
    users: tuple[User, ...]
    line: int


@dataclass(frozen=True, slots=True)
class RunControl:
    """A whole file. `stray` are the stretches of annotations that stand in no entry, or in `defaults`."""

    polls: tuple[Poll, ...]
    stray: tuple[tuple[Annotation, ...], ...]


def parse(text: str, file: str) -> RunControl:
    """Read the text of a run control file. Raises AccountsError with the line where fetchmail would not go on."""
    return _Parser(text, file).file()


_APART = "\0"  # which no string has in it

# kpop is what fetchmail knows by itself, the others what every system knows that has an /etc/services.
_SERVICES = frozenset(("kpop", "pop3", "pop3s", "imap", "imap2", "imaps"))


def _is_port(text: str) -> bool:
    """Whether fetchmail finds a port in this: a number as strtol(3) reads it, or a service that this system knows."""
    if text in _SERVICES:
        return True
    if re.fullmatch(r"[ \t\n\v\f\r]*\+?0*[0-9]{1,5}", text):
        return 0 < int(text) <= 65535
    import socket  # only where a service has a name

    try:
        socket.getservbyname(text, "tcp")
    except (OSError, ValueError):  # ValueError: a lone surrogate
        return False
    return True


def _is_interface(text: str) -> bool:
    """NAME/ADDRESS[/MASK], both as inet_aton(3) reads them."""
    import socket  # only where there is one

    _, slash, rest = text.partition("/")
    address, other_slash, mask = rest.partition("/")
    try:
        socket.inet_aton(address)
        socket.inet_aton(mask if other_slash else address)
    except (OSError, ValueError):  # ValueError: a lone surrogate
        return False
    return bool(slash)


class _Mailbox:
    """The options of one user as they are being read: name of the option to its argument; `yes` or `no` for flags."""

    __slots__ = ("annotations", "line", "lists", "local_names", "options")

    def __init__(self, line: int, annotations: list[Annotation]) -> None:
        self.line = line
        self.annotations = annotations
        self.options: dict[str, str] = {}
        self.lists: dict[str, list[str]] = {"folder": [], "smtphost": []}
        self.local_names: list[tuple[str, str | None]] = []

    def add(self, names: list[tuple[str, str | None]]) -> None:
        self.local_names += [name for name in names if name != ("*", None)]
        if ("*", None) in names:
            self.options["*"] = "yes"

    def user(self, defaults: "_Mailbox") -> User:
        options = defaults.options | self.options
        password = options.get("pass")
        return User(
            remote=options.get("user"),
            password=None if password is None else Secret(password.encode("utf-8", "surrogateescape")),
            password_file=options.get("passwordfile"),
            local_names=tuple(self.local_names or defaults.local_names),
            wildcard="*" in options,
            ssl=options.get("ssl") == "yes",
            annotations=tuple(self.annotations),
            line=self.line,
        )


_NO_DEFAULTS = _Mailbox(0, [])


class _Parser:
    """Reads the grammar from the top; the current token is `kind` with `value` and `offset`."""

    def __init__(self, text: str, file: str) -> None:
        self.text = text
        self.tokens = scan(text)
        self.comment_unended = False
        self.name = file
        self.line_starts = [0, *(match.end() for match in re.finditer("\n", text))]
        self.stray: list[list[Annotation]] = [[]]
        self.annotations = self.stray[0]
        self.defaults: _Mailbox | None = None
        self.polls: list[Poll] = []
        self.mailboxes = 0
        self.idle: _Mailbox | None = None
        self.idle_folders = 0
        self.advance()

    def advance(self) -> None:
        """Go on to the next token. Annotations on the way belong to what is being read."""
        self.kind, self.value, self.offset = next(self.tokens)
        while self.kind is Kind.ANNOTATION:
            self.annotations.append(Annotation(self.value, self.line_of(self.offset)))
            self.kind, self.value, self.offset = next(self.tokens)
        if self.text.startswith("#", self.offset):
            self.comment_unended = True

    def line_of(self, offset: int) -> int:
        return bisect_right(self.line_starts, offset)

    def error(self, reason: str, offset: int | None = None) -> AccountsError:
        """An error at an offset, or else at the current token."""
        if self.comment_unended:
            reason = "a comment needs a line end: add one at the end of the file"
        return AccountsError(Origin(self.name, self.line_of(self.offset if offset is None else offset)), reason)

    def expected(self, what: str) -> AccountsError:
        return self.error(f"{what} expected (a string with blanks or any of , ; : = needs quotes)")

    def file(self) -> RunControl:
        while self.kind is not Kind.END:
            match self.kind:
                case "set":
                    self.annotations = []
                    self.stray.append(self.annotations)
                    self.advance()
                    self.option(GLOBAL_OPTIONS)
                case "poll" | "skip" | "defaults":
                    self.entry()
                case _:
                    raise self.expected("`poll`, `skip`, `defaults`, `set` or an option of the entry")
        if self.idle and (self.idle_folders > 1 or sum(len(poll.users) for poll in self.polls) > 1):
            raise AccountsError(
                Origin(self.name, self.idle.line), "`idle` needs to be the only folder of the only user"
            )
        return RunControl(tuple(self.polls), tuple(tuple(stretch) for stretch in self.stray if stretch))

    def entry(self) -> None:
        keyword, line = self.kind, self.line_of(self.offset)
        if keyword == "defaults":
            self.only_first(self.offset)
        self.annotations = []
        first = self.mailbox()
        self.advance()
        if keyword != "defaults":
            offset = self.offset
            server = self.string()
            if server == "defaults":
                # A server of this name cannot be polled: fetchmail takes it for the word.
                keyword = server
                self.only_first(offset)
        server_options: dict[str, str] = {}
        while self.kind in SERVER_OPTIONS:
            option = self.option(SERVER_OPTIONS)
            if option.get("port") == "kpop" and server_options.get("auth") == "password":
                option["auth"] = "kerberos_v5"
            server_options |= option
        if keyword == "defaults":
            self.defaults, *others = self.users(first)
            if others:
                raise self.error("`defaults` may have one `user` only")
            self.defaults.options |= server_options
            self.stray.append(self.defaults.annotations)
        else:
            defaults = self.defaults or _NO_DEFAULTS
            options = defaults.options | server_options
            if "port" in options and not _is_port(options["port"]):
                raise AccountsError(
                    Origin(self.name, line),
                    "the port or service must be a number from 1 to 65535, or a service that is known here",
                )
            mailboxes = list(self.users(first))
            for mailbox in mailboxes:
                self.check(mailbox, defaults)
            self.polls.append(
                Poll(
                    server=server,
                    via=options.get("via"),
                    skip=keyword == "skip",
                    protocol=options.get("protocol", "auto"),
                    port=options.get("port"),
                    passwordless=keyword != "skip"
                    and (options.get("protocol") == "ETRN" or options.get("auth") in PASSWORDLESS),
                    users=tuple(mailbox.user(defaults) for mailbox in mailboxes),
                    line=line,
                )
            )
        if self.kind in SERVER_OPTIONS:
            raise self.error("this option of the server must stand before its users and their options")
        if self.kind == "user":
            raise self.error("the options of the first user need a `user` before them, too")

    def check(self, mailbox: _Mailbox, defaults: _Mailbox) -> None:
        """What fetchmail looks at when all is read."""
        if mailbox.options.get("idle", defaults.options.get("idle")) == "yes":
            self.idle = mailbox
            self.idle_folders = len(mailbox.lists["folder"] or defaults.lists["folder"])
        if mailbox.options.get("lmtp", defaults.options.get("lmtp")) == "yes":
            hosts = mailbox.lists["smtphost"] or defaults.lists["smtphost"]
            if not hosts or not all("/" in host for host in hosts):
                raise AccountsError(Origin(self.name, mailbox.line), "`lmtp` needs `smtphost` with a port: HOST/PORT")

    def only_first(self, offset: int) -> None:
        if self.polls or self.defaults:
            raise self.error("`defaults` may stand once, before all other entries", offset)

    def users(self, first: _Mailbox) -> Iterator[_Mailbox]:
        """The users of an entry. What annotates the entry before its first user belongs to the first."""
        if self.kind != "user":
            self.user_options(first)
            yield first
            return
        while self.kind == "user":
            mailbox = self.mailbox()
            self.advance()
            names = self.names()
            if self.take("here"):
                mailbox.add(names)
            elif len(names) == 1 and names[0][1] is None:
                self.take("there")
                mailbox.options["user"] = names[0][0]
            else:
                raise self.expected("`here` after several names")
            self.user_options(mailbox)
            self.annotations = []
            yield mailbox

    def mailbox(self) -> _Mailbox:
        """What begins at the current token."""
        self.mailboxes += 1
        if self.mailboxes > MAX_MAILBOXES:
            raise self.error(f"no more than {MAX_MAILBOXES} entries and users")
        return _Mailbox(self.line_of(self.offset), self.annotations)

    def user_options(self, mailbox: _Mailbox) -> None:
        while True:
            if self.kind in ("is", "to"):
                keyword = self.kind
                self.advance()
                names = self.names()
                if keyword == "is" and len(names) == 1 and names[0][1] is None and self.take("there"):
                    mailbox.options["user"] = names[0][0]
                else:
                    self.take("here")
                    mailbox.add(names)
            elif self.kind in USER_OPTIONS:
                options = self.option(USER_OPTIONS)
                for name in mailbox.lists.keys() & options.keys():
                    mailbox.lists[name] += options[name].split(_APART)
                mailbox.options |= options
            else:
                return

    def names(self) -> list[tuple[str, str | None]]:
        """1*(string ["=" string])"""
        names: list[tuple[str, str | None]] = []
        while not names or self.kind is Kind.STRING:
            there = self.string()
            names.append((there, self.string() if self.take(Kind.EQUALS) else None))
        return names

    def option(self, table: dict[str, Argument]) -> dict[str, str]:
        """One option of a table: its name and its argument, `yes` or `no` for a flag, a list with _APART between."""
        name = self.kind
        if not isinstance(name, str) or name not in table:
            raise self.expected("the name of an option")
        argument = table[name]
        self.advance()
        if argument is Argument.NOTHING:
            return {name.removeprefix("no "): "no" if name.startswith("no ") else "yes"}
        if table is GLOBAL_OPTIONS:
            self.take(Kind.EQUALS)
        elif argument is Argument.ENVELOPE:
            self.take(Kind.NUMBER)
        offset, number = self.offset, self.kind is Kind.NUMBER
        value = self.value_of(argument)
        match argument:
            case Argument.STRINGS | Argument.NUMBERS:
                while self.kind in argument.kinds:
                    value += f"{_APART}{self.value_of(argument)}"
            case Argument.PROTOCOL if value in ("kpop", "KPOP"):
                return {name: "POP3", "port": "kpop"}
            case Argument.PROTOCOL:
                value = {"sdps": "POP3", "auto": "auto"}.get(value.lower(), value.upper())
            case Argument.INTERFACE if not _is_interface(value):
                raise self.error(f"{argument.words} expected", offset)
            case Argument.AUTHENTICATION if value == "any":
                return {}  # for fetchmail this is the same as nothing: it does not change what the defaults say
            case Argument.PORT | Argument.SERVICE:
                name = "port"
                if number and len(value) <= 9:
                    value = str(int(value))
        return {name: value}

    def string(self) -> str:
        return self.value_of(Argument.STRING)

    def value_of(self, argument: Argument) -> str:
        """The text of the current token, which must be such an argument; goes on to the next token."""
        if self.kind not in argument.kinds:
            raise self.expected(argument.words)
        value = self.value
        self.advance()
        return value

    def take(self, kind: Kind | str) -> bool:
        """Whether the current token is of this kind; if so, goes on to the next."""
        taken = self.kind == kind
        if taken:
            self.advance()
        return taken
