"""The document that tells mail programs a domain's servers, from strangers."""

import contextlib

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sendooway.accounts.account import Security
from sendooway.discovery.autoconfig import MAX_OCTETS, AutoconfigError, Server, parse

ADDRESS = "alice@moon.test"


def document(*servers: str) -> bytes:
    head, tail = '<clientConfig version="1.1"><emailProvider id="moon.test">', "</emailProvider></clientConfig>"
    return f'<?xml version="1.0"?>{head}{"".join(servers)}{tail}'.encode()


def outgoing(
    host: str = "smtp.moon.test",
    port: str = "465",
    socket_type: str = "SSL",
    username: str = "%EMAILADDRESS%",
    kind: str = "smtp",
) -> str:
    return (
        f'<outgoingServer type="{kind}"><hostname>{host}</hostname><port> {port} </port>'
        f"<socketType>{socket_type}</socketType><username>{username}</username></outgoingServer>"
    )


def test_servers_with_tls_are_given_as_written() -> None:
    text = document(
        '<incomingServer type="imap"><hostname>imap.moon.test</hostname></incomingServer>',
        outgoing(),
        outgoing("SMTP.%EMAILDOMAIN%", "587", "STARTTLS", "%EMAILLOCALPART%"),
    )
    assert parse(text, ADDRESS) == (
        Server("smtp.moon.test", 465, Security.SMTPS, "alice@moon.test"),
        Server("smtp.moon.test", 587, Security.STARTTLS, "alice"),
    )


@pytest.mark.parametrize(
    "server",
    [
        outgoing(socket_type="plain"),
        outgoing(socket_type=""),
        outgoing(kind="exchange"),
        outgoing(port="0"),
        outgoing(port="65536"),
        outgoing(port="smtp"),
        outgoing(port="\u0664\u0666\u0665"),
        outgoing(host=""),
        "<outgoingServer/>",
    ],
)
def test_what_has_no_tls_or_lacks_something_is_passed_over(server: str) -> None:
    assert parse(document(server), ADDRESS) == ()


def test_a_user_name_that_is_no_placeholder_is_not_believed() -> None:
    (server,) = parse(document(outgoing(username='mallory"\n#sendooway:noCertCheck')), ADDRESS)
    assert server.username == ""


BOMB = b"""<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">
<!ENTITY c "&b;&b;&b;&b;&b;&b;&b;&b;&b;&b;">]><clientConfig><emailProvider>&c;</emailProvider></clientConfig>"""
EXTERNAL = b"""<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]><clientConfig>&a;</clientConfig>"""


@pytest.mark.parametrize(
    ("octets", "reason"),
    [
        (BOMB, "it has a DTD"),
        (EXTERNAL, "it has a DTD"),
        (b"<clientConfig>&a;</clientConfig>", "line 1: undefined entity"),
        (b"", "line 1: no element found"),
        (b"<html><body>Not found</body></html>", "it is not about mail servers"),
        (b"<clientConfig><emailProvider>", "line 1: no element found"),
        (b'<?xml version="1.0" encoding="rot13"?><clientConfig/>', "its encoding is unknown"),
        (b'<?xml version="1.0" encoding="no-such"?><clientConfig/>', "its encoding is unknown"),
        (b"\0" * 100, "line 1: "),
    ],
)
def test_what_is_no_such_document_is_refused(octets: bytes, reason: str) -> None:
    with pytest.raises(AutoconfigError, match=reason):
        parse(octets, ADDRESS)


def test_deep_and_wide_documents_are_read_in_time() -> None:
    depth = MAX_OCTETS // 8
    assert parse(b"<clientConfig>" + b"<a>" * depth + b"</a>" * depth + b"</clientConfig>", ADDRESS) == ()
    text = document(f"<outgoingServer type='smtp'><hostname>{'a' * 60000}</hostname></outgoingServer>")
    assert parse(text, ADDRESS) == ()


MARKUP = st.text(alphabet='<>/"=?!&;%clientConfig outgoingServer', max_size=200).map(str.encode)


@given(st.binary(max_size=300) | MARKUP)
@example(b'<?xml version="1.0" encoding="utf-16"?><a/>')
def test_any_octets_give_servers_or_the_documented_error(octets: bytes) -> None:
    with contextlib.suppress(AutoconfigError):
        parse(octets, ADDRESS)
