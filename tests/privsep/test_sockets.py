import os
import socket
from pathlib import Path

import pytest

from sendooway.config import Listen
from sendooway.net.listener import ListenError
from sendooway.privsep import sockets


def is_open(sock: socket.socket) -> bool:
    return sock.fileno() >= 0


def test_a_place_that_is_open_already_keeps_its_socket_also_where_tls_is_new(tmp_path: Path) -> None:
    path = str(tmp_path / "one")
    old = sockets.open_all([Listen(path=path)], {})
    new = sockets.open_all([Listen(path=path, tls=True), Listen(path=str(tmp_path / "two"))], sockets.by_place(old))
    assert new[0][1] == old[0][1]
    sockets.close(old, sockets.by_place(new))
    assert all(map(is_open, new[0][1]))
    assert os.path.exists(path)
    sockets.close(new, {})
    assert os.listdir(tmp_path) == []


def test_what_is_not_wanted_any_more_is_closed_and_removed(tmp_path: Path) -> None:
    old = sockets.open_all([Listen(path=str(tmp_path / name)) for name in "ab"], {})
    new = sockets.open_all([Listen(path=str(tmp_path / "b"))], sockets.by_place(old))
    sockets.close(old, sockets.by_place(new))
    assert [is_open(sock) for _, socks in old for sock in socks] == [False, True]
    assert os.listdir(tmp_path) == ["b"]
    sockets.close(new, {})


def test_where_one_cannot_be_opened_no_new_one_stays_open(tmp_path: Path) -> None:
    old = sockets.open_all([Listen(path=str(tmp_path / "old"))], {})
    wanted = [Listen(path=str(tmp_path / name)) for name in ("old", "new", "no-such-folder/s")]
    before = os.listdir("/proc/self/fd")
    with pytest.raises(ListenError):
        sockets.open_all(wanted, sockets.by_place(old))
    assert os.listdir("/proc/self/fd") == before
    assert os.listdir(tmp_path) == ["old"]
    sockets.close(old, {})


def test_an_inherited_socket_is_not_removed(tmp_path: Path) -> None:
    path = tmp_path / "theirs"
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(path))
        sockets.close([(Listen(path=str(path), inherited=True), [sock])], {})
        assert not is_open(sock)
    assert path.exists()
