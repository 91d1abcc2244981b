"""What a system is like that has no room for more."""

import os
import resource
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest


@contextmanager
def no_threads() -> Iterator[None]:
    """None can be started."""

    def fail(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(threading.Thread, "start", fail)
        yield


@contextmanager
def few_descriptors(number: int) -> Iterator[None]:
    """This process can open so many more."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    leave_descriptors(number)
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def leave_descriptors(number: int) -> None:
    """Lower this process's limit so that there are so many left."""
    # The one that lists them is closed by then.
    used = {int(name) for name in os.listdir("/proc/self/fd") if os.path.lexists(f"/proc/self/fd/{name}")}
    free = [descriptor for descriptor in range(max(used) + number + 2) if descriptor not in used]
    resource.setrlimit(resource.RLIMIT_NOFILE, (free[number], resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
