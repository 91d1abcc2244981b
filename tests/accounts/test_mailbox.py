"""The address that a mailbox obviously has."""

import pytest

from sendooway.accounts.entry import Retriever
from sendooway.accounts.mailbox import address_of


def mailbox(server: str, username: str | None, via: str | None = None) -> Retriever:
    return Retriever(server, via, None, "POP3", True, username, None, ())


@pytest.mark.parametrize(
    ("retriever", "address"),
    [
        (mailbox("pop.provider.test", "alice@moon.test"), "alice@moon.test"),
        (mailbox("pop.moon.test", "alice"), "alice@moon.test"),
        (mailbox("IMAP.Moon.Test", "Alice"), "Alice@moon.test"),
        (mailbox("moon.test", "alice"), "alice@moon.test"),
        (mailbox("mail.example.co.test", "alice"), "alice@example.co.test"),
        (mailbox("a label", "alice", via="pop3.moon.test"), "alice@moon.test"),
    ],
)
def test_it_is_the_user_name_or_the_user_at_the_servers_domain(retriever: Retriever, address: str) -> None:
    assert address_of(retriever) == address


@pytest.mark.parametrize(
    "retriever",
    [
        mailbox("mx7.provider.test", "alice"),
        mailbox("localhost", "alice"),
        mailbox("pop.test", ""),
        mailbox("192.0.2.1", "alice"),
        mailbox("10.1", "alice"),
        mailbox("pop.moon.test", None),
        mailbox("pop.moon.test", "alice smith"),
        mailbox("pop.moon.test", "alice@localhost"),
        mailbox("pop.moon.test", "recent:alice@"),
        mailbox("pop.moon.test", "\x1b"),
        mailbox("pop.moon.test", "*"),
        mailbox("pop.moon.test", "alice@[192.0.2.1]"),
    ],
)
def test_where_there_is_doubt_there_is_none(retriever: Retriever) -> None:
    assert address_of(retriever) is None
