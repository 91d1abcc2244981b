"""What the service manager is told: sd_notify(3) by hand, for it is datagrams to a socket that the environment names.

Only the monitor speaks. It is the process that the service manager has started, so nobody needs to be told its number
(MAINPID).
"""

import os
import socket
import time
from collections.abc import MutableMapping

# A service manager that is busy gets the time to read; one that hangs must not keep us from our work.
_SECONDS = 1.0


class Notify:
    """Tells the socket `address`, written as in NOTIFY_SOCKET, or nobody if it is empty. Never raises.

    `watchdog`: a sign of life is wanted each time so many seconds have passed; None: it is not. A `status` is one line
    for people.
    """

    def __init__(self, address: str = "", watchdog: float | None = None) -> None:
        # `@` stands for the NUL of an abstract name. There are other kinds, as between virtual machines (vsock:).
        self._address = address.replace("@", "\0", 1) if address[:1] == "@" else address
        self.watchdog = watchdog if address[:1] in ("/", "@") else None

    def ready(self, status: str) -> None:
        """The start is over, or a reload."""
        self._send("READY=1", status)

    def reloading(self) -> None:
        now = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        self._send(f"RELOADING=1\nMONOTONIC_USEC={now}", "reads its configuration")

    def stopping(self, status: str) -> None:
        self._send("STOPPING=1", status)

    def alive(self) -> None:
        self._send("WATCHDOG=1")

    def status(self, status: str) -> None:
        self._send("", status)

    def _send(self, state: str, status: str = "") -> None:
        if self._address[:1] not in ("/", "\0"):
            return
        # Whatever a status quotes, it is one line and no other message.
        lines = [state] if state else []
        if status:
            lines.append("STATUS=" + " ".join(status.split()))
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
                sock.settimeout(_SECONDS)
                sock.sendto("\n".join(lines).encode("utf-8", "replace"), self._address)
        except OSError:
            pass  # who asked to be told listens no more; that is no reason to stop


def take(environment: MutableMapping[str, str]) -> Notify:
    """Whom to tell, and how often; the variables are removed, so that what we start tells nothing in our name."""
    names = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")
    address, microseconds, pid = (environment.pop(name, "") for name in names)
    # More digits are days, which is as good as never, and would be more than poll(2) takes.
    is_number = microseconds.isascii() and microseconds.isdecimal() and len(microseconds) <= 11
    if not is_number or int(microseconds) == 0 or pid not in ("", str(os.getpid())):
        return Notify(address)
    # At half of the time, one that is late does no harm.
    return Notify(address, int(microseconds) / 2_000_000)
