"""Files that may change."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from sendooway.privsep.watch import Watch


def replace(path: Path) -> None:
    """As useradd(8) and its relatives do."""
    new = path.with_suffix(".new")
    new.write_text(path.read_text())
    os.utime(new, ns=(0, path.stat().st_mtime_ns))
    new.rename(path)


@pytest.mark.parametrize(
    "change",
    [
        lambda path: path.write_text("longer"),
        lambda path: os.utime(path, ns=(0, path.stat().st_mtime_ns + 1)),
        replace,
        lambda path: path.unlink(),
    ],
    ids=["written", "touched", "replaced", "removed"],
)
def test_a_change_is_told_once(tmp_path: Path, change: Callable[[Path], object]) -> None:
    paths = [tmp_path / "passwd", tmp_path / "group"]
    for path in paths:
        path.write_text("x")
    watch = Watch(list(map(str, paths)))
    assert not watch.changed()
    change(paths[1])
    assert watch.changed()
    assert not watch.changed()


def test_a_file_that_was_not_there_and_comes_is_a_change(tmp_path: Path) -> None:
    watch = Watch([str(tmp_path / "passwd")])
    assert not watch.changed()
    (tmp_path / "passwd").touch()
    assert watch.changed()
