"""The trace field that we put in front of a message (RFC 5321, 4.4)."""


def received(
    *, client_name: str, client_address: str, localname: str, session: str, date: str, tls: bool, utf8: bool
) -> bytes:
    """The whole field, with CR LF.

    `client_name` is what EHLO told, empty where it was not said; `client_address` is numeric, empty where there is no
    network between us; `date` is as RFC 5322, 3.3 wants it. The protocol's name is RFC 3848's and, for a mail with
    SMTPUTF8, RFC 6531's (4.3).
    """
    source = f" ([{_literal(client_address)}])" if client_address else ""
    protocol = f"{'UTF8SMTP' if utf8 else 'ESMTP'}{'S' if tls else ''}A"
    return (
        f"Received: from {client_name or 'unknown'}{source}\r\n"
        f"\tby {localname} (Sendooway) with {protocol} id {session};\r\n"
        f"\t{date}\r\n"
    ).encode("ascii")


def _literal(address: str) -> str:
    """RFC 5321, 4.1.3."""
    return f"IPv6:{address}" if ":" in address else address
