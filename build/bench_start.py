"""How long a client waits for its greeting where a super-server starts the program: build/bench_start.py PROGRAM.

Each connection gets a process of its own, with the connection as its standard input, output and error, as inetd does.
Measured is the time from before the process is made until the first octet of the greeting is there. Beside it stands
what Python alone needs to say a line in the same way: what is above that is ours. Times are in ms; minimum and median.
"""

import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

RUNS = 40
COLD_RUNS = 5
BARE = ["/usr/bin/python3", "-IS", "-c", "print('220', flush=True)"]


def wait_for_greeting(
    listener: socket.socket, command: list[str], environment: dict[str, str], ask: bytes = b""
) -> float:
    """Milliseconds until the greeting, or until the reply to `ask`, sent when it is there.

    AssertionError if it is no greeting.
    """
    with socket.create_connection(listener.getsockname()) as client, listener.accept()[0] as connection:
        begin = time.perf_counter()
        process = subprocess.Popen(
            command, stdin=connection, stdout=connection, stderr=connection, env=environment, cwd="/"
        )
        connection.close()
        octets = client.recv(200)
        assert octets.startswith(b"220"), octets
        if ask:
            client.sendall(ask)
            client.recv(1000)
        end = time.perf_counter()
        client.shutdown(socket.SHUT_WR)
        while client.recv(1000):
            pass
        process.wait()
    return (end - begin) * 1000


def forget(program: Path) -> None:
    """Nothing of the program is in the page cache then: so it is after a boot, or for a file that was just copied."""
    descriptor = os.open(program, os.O_RDONLY)
    os.fsync(descriptor)
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(descriptor)


def show(name: str, times: list[float], bare: list[float]) -> None:
    print(f"{name:<52}{min(times):8.1f}{min(times) / min(bare):7.2f}", end="")
    print(f"{statistics.median(times):10.1f}{statistics.median(times) / statistics.median(bare):7.2f}")


def main(program: Path) -> None:
    environment = {"LC_ALL": "C"}
    with tempfile.TemporaryDirectory() as folder, socket.create_server(("127.0.0.1", 0)) as listener:
        # Where a service would be installed: all may read it, and nothing else is in its folder.
        Path(folder).chmod(0o755)
        copy = Path(shutil.copy(program, folder))
        log = Path(folder, "log")
        serve = [str(copy), "-i", "-c", "/dev/null", "-l", str(log)]
        measure: dict[str, Callable[[], float]] = {
            "python3 -IS that prints a line": lambda: wait_for_greeting(listener, BARE, environment),
            "sendooway --inetd": lambda: wait_for_greeting(listener, serve, environment),
            "sendooway --inetd, until the reply to EHLO": lambda: wait_for_greeting(
                listener, serve, environment, b"EHLO client.test\r\n"
            ),
        }
        times: dict[str, list[float]] = {name: [] for name in measure}
        for run in range(RUNS + 3):
            for name, once in measure.items():
                taken = once()
                if run >= 3:  # the first ones warm the caches
                    times[name].append(taken)
        cold = []
        for _ in range(COLD_RUNS):
            forget(copy)
            cold.append(wait_for_greeting(listener, serve, environment))
        text = log.read_text()
    print(f"{'from exec to the greeting, in ms':<52}{'min':>8}{'ratio':>7}{'median':>10}{'ratio':>7}")
    bare = times["python3 -IS that prints a line"]
    for name, taken_all in times.items():
        show(name, taken_all, bare)
    show("sendooway --inetd, its file read from the disk", cold, bare)
    print("rights given up:", "yes" if os.geteuid() != 0 or (" uid=" in text and " uid=0 " not in text) else "NO")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
