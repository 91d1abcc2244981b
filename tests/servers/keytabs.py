"""Keytabs, written by ourselves."""

import struct
import sys

ORDERS = {1: "<" if sys.byteorder == "little" else ">", 2: ">"}


def counted(order: str, octets: bytes) -> bytes:
    return struct.pack(f"{order}H", len(octets)) + octets


def entry(principal: str, version: int = 2, *, long_kvno: bool = True) -> bytes:
    """One key of a principal, with its length."""
    order = ORDERS[version]
    name, _, realm = principal.rpartition("@")
    components = name.split("/")
    octets = struct.pack(f"{order}H", len(components) + (version == 1))
    octets += b"".join(counted(order, part.encode()) for part in (realm, *components))
    octets += struct.pack(f"{order}I", 1) if version == 2 else b""
    octets += struct.pack(f"{order}IBH", 1_700_000_000, 3, 18) + counted(order, bytes(32))
    octets += struct.pack(f"{order}I", 3) if long_kvno else b""
    return struct.pack(f"{order}i", len(octets)) + octets


def hole(size: int, version: int = 2) -> bytes:
    return struct.pack(f"{ORDERS[version]}i", -size) + bytes(size)


def file_of(*parts: bytes, version: int = 2) -> bytes:
    return bytes([5, version]) + b"".join(parts)
