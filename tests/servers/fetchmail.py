"""The real fetchmail, asked what it understands of a run control file (`--configdump`)."""

import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

from sendooway.accounts.entry import Retriever

_SHOWN = re.compile(rb"[\t ]+[\"'](pollname|via|protocol|service|remote|password|localnames|ssl)[\"']: *(.*),")


def why_not() -> str:
    """Why fetchmail cannot be asked here, else nothing."""
    return "" if shutil.which("fetchmail") else "needs fetchmail"


def dump(octets: bytes, folder: Path) -> list[bytes] | None:
    """What fetchmail shows of the servers and users of a file, line by line; None where it rejects the file."""
    file = folder / "fetchmailrc"
    file.touch(mode=0o600)
    file.write_bytes(octets)
    environment = {"HOME": str(folder), "LC_ALL": "C", "PATH": os.environ["PATH"]}
    command = ["fetchmail", "--configdump", "-f", str(file)]
    ran = subprocess.run(command, capture_output=True, env=environment, stdin=subprocess.DEVNULL, check=False)
    if ran.returncode:
        return None
    servers = ran.stdout.partition(b"'servers': [")[2]
    return [match[1] + b" " + match[2] for match in map(_SHOWN.fullmatch, servers.split(b"\n")) if match]


def password_from(netrc: str, entry: str, folder: Path) -> bytes | None:
    """The password, as fetchmail prints it, that it finds for an entry in a netrc file; None where it finds none."""
    for name, text in (("fetchmailrc", f"{entry}\n"), (".netrc", netrc)):
        (folder / name).touch(mode=0o600)
        (folder / name).write_bytes(text.encode("utf-8", "surrogateescape"))
    environment = {"HOME": str(folder), "LC_ALL": "C", "PATH": os.environ["PATH"]}
    command = ["fetchmail", "--version", "--verbose", "-f", str(folder / "fetchmailrc")]
    ran = subprocess.run(command, capture_output=True, env=environment, stdin=subprocess.DEVNULL, check=False)
    found = re.search(rb'^  Password = (".*")\.$', ran.stdout, re.MULTILINE)
    return found[1] if found else None


def show(retrievers: Sequence[tuple[int, Retriever]]) -> list[bytes]:
    """The same lines for what we read: the retrievers, each with the number of the entry that it is of."""
    lines = []
    for _, users in groupby(retrievers, key=lambda one: one[0]):
        for place, (_, user) in enumerate(users):
            if place == 0:
                lines += [b"pollname " + shown(user.server), b"via " + shown(user.via)]
                lines += [b"protocol " + shown(user.protocol), b"service " + shown(user.port)]
            password = None if user.password is None else user.password.octets
            names = [_name(name) for name in user.local_names]
            lines += [b"remote " + shown(user.username), b"password " + shown(password)]
            lines += [b"localnames [" + b", ".join(names) + b"]", b"ssl " + (b"TRUE" if user.ssl else b"FALSE")]
    return lines


def _name(name: str | tuple[str, str]) -> bytes:
    if isinstance(name, tuple):
        return b"(" + shown(name[0]) + b", " + shown(name[1]) + b")"
    return b"'*'" if name == "*" else shown(name)


_ESCAPED = {b'"': b'\\"', b"\\": b"\\\\"} | {
    bytes((7 + number,)): b"\\" + letter for number, letter in enumerate((b"a", b"b", b"t", b"n", b"v", b"f", b"r"))
}


def shown(value: str | bytes | None) -> bytes:
    """As fetchmail prints it. (What it prints of octets that are not ASCII is broken.)"""
    if value is None:
        return b"None"
    octets = value.encode("utf-8", "surrogateescape") if isinstance(value, str) else value
    return (
        b'"' + re.sub(rb"[^ -~]|[\\\"]", lambda found: _ESCAPED.get(found[0], b"\\0x%02x" % found[0][0]), octets) + b'"'
    )
