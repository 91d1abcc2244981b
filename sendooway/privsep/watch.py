"""Files that say who may do what: whether they have changed since they were looked at last."""

import os
from collections.abc import Sequence


class Watch:
    """Some files, by their paths."""

    def __init__(self, paths: Sequence[str]) -> None:
        self._paths = paths
        self._state = self._look()

    def changed(self) -> bool:
        """Whether any of them has changed, come or gone since this was asked last, or since the beginning."""
        before, self._state = self._state, self._look()
        return self._state != before

    def _look(self) -> list[tuple[int, int, int] | None]:
        return [_version(path) for path in self._paths]


def _version(path: str) -> tuple[int, int, int] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns, status.st_size
