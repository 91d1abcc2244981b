"""Keytabs: for which principals a server has keys. The keys themselves are not looked at.

The file has no standard; MIT describes it in `formats/keytab_file_format`. After two octets with the version comes, for
each key, its length and as many octets:

    components   16 bits, then each as a counted string, after the realm, which is one too
    name type    32 bits, not in version 1
    timestamp    32 bits
    key version  8 bits
    key          16 bits for its type, and a counted string
    key version  32 bits, perhaps

A counted string has its length in 16 bits before it. A negative length is that of a hole, where a key has been removed.
Numbers are big-endian in version 2, and in version 1 as the machine has them.
"""

import errno
import os
import stat
import sys
from typing import Literal

MAX_OCTETS = 1 << 20  # octets

_MAGIC = 5
_BIG_ENDIAN = 2


class KeytabError(Exception):
    """A file cannot be used as a keytab. The text says why and what to do."""


class _Octets:
    """Octets from which a structure is read. Raises KeytabError where they end too early."""

    def __init__(self, octets: bytes, order: Literal["little", "big"]) -> None:
        self._octets = octets
        self._order = order

    def __len__(self) -> int:
        return len(self._octets)

    def take(self, size: int) -> bytes:
        if size > len(self._octets):
            raise KeytabError("it ends in the middle of a key")
        taken, self._octets = self._octets[:size], self._octets[size:]
        return taken

    def number(self, size: int, *, signed: bool = False) -> int:
        return int.from_bytes(self.take(size), self._order, signed=signed)

    def counted(self) -> bytes:
        return self.take(self.number(2))

    def part(self, size: int) -> "_Octets":
        return _Octets(self.take(size), self._order)


def parse(octets: bytes) -> tuple[str, ...]:
    """The principals that a keytab has keys for, as in smtp/mail.example.test@EXAMPLE.TEST, in their order.

    `octets` are the whole file; none at all are an empty keytab. Raises KeytabError for all else.
    """
    if not octets:
        return ()
    if len(octets) < 2 or octets[0] != _MAGIC or octets[1] not in (1, _BIG_ENDIAN):
        raise KeytabError("it does not begin like a keytab")
    native = octets[1] != _BIG_ENDIAN
    rest = _Octets(octets[2:], sys.byteorder if native else "big")
    principals = []
    # A writer that was interrupted may leave fewer octets than a length has: libkrb5 reads no further either.
    while len(rest) >= 4 and (size := rest.number(4, signed=True)):
        if size < 0:
            rest.take(-size)
        else:
            principals.append(_parse_principal(rest.part(size), native=native))
    return tuple(dict.fromkeys(principals))


def _parse_principal(entry: _Octets, *, native: bool) -> str:
    # Version 1 counts the realm as a component.
    count = entry.number(2) - native
    if count < 0:
        raise KeytabError("a principal has no realm")
    realm, *components = (_text(entry.counted()) for _ in range(count + 1))
    return f"{'/'.join(components)}@{realm}"


def _text(octets: bytes) -> str:
    return octets.decode("utf-8", "backslashreplace")


def read(name: str) -> bytes:
    """The octets of the keytab `name`: an absolute path, with or without libkrb5's `FILE:` before it.

    Raises KeytabError, with a remedy, if it cannot be read, is no regular file, or is longer than MAX_OCTETS.
    """
    path = name.removeprefix("FILE:").removeprefix("WRFILE:")
    if not path.startswith("/") or "\0" in path:
        raise KeytabError("its name is no absolute path, and only files can be read")
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise KeytabError("it is not a regular file")
            octets = os.read(descriptor, MAX_OCTETS + 1)
        finally:
            os.close(descriptor)
    except OSError as error:
        remedy = _REMEDIES.get(error.errno, "is krb5Keytab right?")
        raise KeytabError(f"it cannot be read ({error.strerror}); {remedy}") from None
    if len(octets) > MAX_OCTETS:
        raise KeytabError(f"it is longer than {MAX_OCTETS} octets")
    return octets


_REMEDIES: dict[int | None, str] = {
    errno.ENOENT: "write it with `kadmin ktadd -k FILE smtp/HOST`, or name another with krb5Keytab",
    errno.EACCES: "who starts sendooway must be able to read it; for root, `chown root FILE; chmod 600 FILE`",
}


def find_service(name: str, service: str) -> str:
    """The first principal of `service`, as in smtp/mail.example.test@EXAMPLE.TEST, in the keytab `name` (see `read`).

    Raises KeytabError, which names the keytab, if it has none or cannot be used.
    """
    try:
        for principal in parse(read(name)):
            if principal.startswith(f"{service}/"):
                return principal
        raise KeytabError(f"it has no key for {service}/HOST; add one with `kadmin ktadd -k FILE {service}/HOST`")
    except KeytabError as error:
        raise KeytabError(f"keytab {name}: {error}") from None
