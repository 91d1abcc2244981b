"""Who is this machine itself: what is said there crosses no network."""

import re


def is_loopback(address: str) -> bool:
    """Whether a numeric address is a loopback one: what is said there crosses no network."""
    return address == "::1" or address.startswith("127.")


def is_here(host: str) -> bool:
    """Whether a host, a name or a numeric address as somebody wrote it, is this machine: what is said to it crosses no
    network."""
    return host.lower() == "localhost" or host == "::1" or bool(re.fullmatch(r"127(\.[0-9]+){3}", host))
