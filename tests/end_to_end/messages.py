"""Messages that a careless program would change on their way."""

import re

HEADER = (
    b"From: Alice <alice@moon.test>\r\nTo: Bob <bob@mars.test>\r\nSubject: octets\r\n"
    b"Date: Sun, 22 Nov 2026 12:00:00 +0000\r\nMessage-ID: <octets@moon.test>\r\n\r\n"
)
EIGHT_BIT = bytes(range(128, 256))

BODIES = {
    "none": b"",
    "one empty line": b"\r\n",
    "dots at line starts": b".\r\n..\r\n.x\r\n...\r\nx.\r\n \r\n.",
    "8-bit octets": EIGHT_BIT + b"\r\nGr\xfc\xdfe, \xc3\xbc\r\n",
    "control characters": bytes(octet for octet in range(1, 32) if octet not in b"\r\n") + b"\x7f\r\n",
    "a line of 998 octets": b"x" * 998 + b"\r\n",
    "a line of 100,000 octets": b"y" * 100_000 + b"\r\n",
    "blank lines at the end": b"text\r\n\r\n\r\n\r\n",
    "blanks at line ends": b"text   \r\n\t \r\n",
    "20 MiB": b"".join(
        b"%s%07d %s\r\n" % (b"." * (number % 3), number, EIGHT_BIT[: number % 120]) for number in range(298_000)
    ),
}


def message(body: str) -> bytes:
    content = HEADER + BODIES[body]
    return content if content.endswith(b"\r\n") else content + b"\r\n"


def without_received(content: bytes) -> bytes:
    """The content without Sendooway's Received field, which must be the first, and the only one that it added."""
    field = re.match(rb"Received: [^\r\n]*\r\n(?:[ \t][^\r\n]*\r\n)*", content)
    assert field, f"no Received field in front: {content[:200]!r}"
    assert b"proxy.test" in field[0]
    return content[field.end() :]
