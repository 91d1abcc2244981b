"""The session that an agent works for."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Visit:
    """The session's id and the client's address, both told by the monitor, not the proxy.

    `client` is `local` where there is no network between us. `proxy` is the process in which the session is.
    """

    session: str
    client: str
    proxy: int = 0
