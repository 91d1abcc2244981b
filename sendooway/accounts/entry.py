"""What a source lists: its entries in the order of the file, and what there is to say about them."""

from dataclasses import dataclass

from sendooway.accounts.account import Account, Password, Unusable
from sendooway.origin import Origin
from sendooway.secret import Secret


@dataclass(frozen=True)
class Retriever:
    """The mailbox that an entry of fetchmail or getmail retrieves, as that program understands it.

    `port` is a number or the name of a service, None where the entry names none. `protocol` is POP3, IMAP or another
    word of that program. A local name is a name, or what mail to a name there is delivered to: (name there, name here).
    `password` is what the entry tells; `password_source` is where the password really comes from, None where nobody
    knows.
    """

    server: str
    via: str | None
    port: str | None
    protocol: str
    ssl: bool
    username: str | None
    password: Secret | None
    local_names: tuple[str | tuple[str, str], ...]
    password_source: Password | None = None


@dataclass(frozen=True)
class Entry:
    """One account, or one mailbox, which may have an account (None: it is not annotated).

    A mailbox with several accounts is several entries.
    """

    origin: Origin
    account: Account | Unusable | None
    retriever: Retriever | None = None

    @property
    def patterns(self) -> tuple[str, ...]:
        return self.account.patterns if self.account else ()


@dataclass(frozen=True)
class Problem:
    """Something that a file says and that is not done. `text` says what, and what to do about it, without secrets."""

    origin: Origin
    text: str

    def __str__(self) -> str:
        return f"{self.origin}: {self.text}"


@dataclass(frozen=True)
class Searched:
    """A file, folder or mapping: its `name`, printable and without secrets. `absent` says that it is not there."""

    name: str
    absent: str = ""

    def __str__(self) -> str:
        return f"{self.name} ({self.absent})" if self.absent else self.name


@dataclass(frozen=True)
class Listing:
    """What one file or mapping gives, and what was searched for that."""

    searched: tuple[Searched, ...] = ()
    entries: tuple[Entry, ...] = ()
    problems: tuple[Problem, ...] = ()

    def __add__(self, other: "Listing") -> "Listing":
        return Listing(self.searched + other.searched, self.entries + other.entries, self.problems + other.problems)
