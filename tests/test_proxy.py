"""The proxy process, as far as its sessions do not show it."""

import subprocess
import sys

from servers.program import ROOT

# The kernel gives a signal to any thread; the main one waits meanwhile.
SIGNAL_FOR_ANOTHER_THREAD = """\
import select, signal, threading
from sendooway.proxy import _receive_signals

signals = _receive_signals()
waits = threading.Event()

def receive():
    waits.wait()
    signal.pthread_kill(threading.get_ident(), signal.SIGTERM)

threading.Thread(target=receive, daemon=True).start()
poll = select.poll()
poll.register(signals.wake, select.POLLIN)
waits.set()
print(len(poll.poll(20_000)))
"""


def test_a_signal_that_another_thread_receives_wakes_the_one_that_waits() -> None:
    done = subprocess.run([sys.executable, "-c", SIGNAL_FOR_ANOTHER_THREAD], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout == "1\n", done.stderr
