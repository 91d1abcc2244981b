"""Which address a mailbox obviously has, by the names in its entry. Pure."""

from sendooway.accounts import pattern
from sendooway.accounts.entry import Entry, Retriever
from sendooway.accounts.value import BadValue

# What providers put before their domain where mail is retrieved.
_PREFIXES = frozenset({"imap", "imap4", "imaps", "mail", "mailbox", "pop", "pop3", "pop3s", "pops"})


def address_of(retriever: Retriever) -> str | None:
    """The address of a mailbox: its user name, if that is one, else the user name at the server's domain, where the
    server's name leaves no doubt what that is. None where there is doubt.
    """
    name = retriever.username or ""
    if "@" not in name:
        name = f"{name}@{_domain(retriever.via or retriever.server)}"
    try:
        pattern.parse(name)
    except BadValue:
        return None
    # A domain that only this machine or network knows tells nothing to others.
    domain = name.rpartition("@")[2]
    return None if "*" in name or domain.startswith("[") or "." not in domain.strip(".") else name


def is_mailbox_of(address: str, entry: Entry) -> bool:
    """Whether the entry has no account and its mailbox obviously is that of the address."""
    if entry.account is not None or entry.retriever is None:
        return False
    found = address_of(entry.retriever)
    return found is not None and found.lower() == address.lower()


def _domain(server: str) -> str:
    """`moon.test` of `moon.test` and `pop.moon.test`; empty for names of other kinds."""
    first, *rest = server.lower().removesuffix(".").split(".")
    if any(label.isdigit() for label in rest[-1:]):
        return ""  # a numeric address
    if len(rest) == 1:
        return f"{first}.{rest[0]}"
    return ".".join(rest) if first in _PREFIXES else ""
