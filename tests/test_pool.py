"""Connections that wait for the next mail: who gets one, and which are ended."""

import socket
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from time import monotonic

import pytest
from clock import Clock
from hypothesis import given
from hypothesis import strategies as st
from servers.processes import wait_until
from shortage import no_threads

from sendooway import pool as pools
from sendooway.net.stream import SocketTransport, Stream
from sendooway.pool import Pool
from sendooway.privsep.messages import AccountFound
from sendooway.smarthost import Smarthost
from sendooway.smtp.capabilities import NONE

ACCOUNT = AccountFound(0, "rc:1", "alice", "mx.test", 25, "none", True)


class Peer:
    """A smarthost's side of one connection, and ours."""

    def __init__(self) -> None:
        ours, self.socket = socket.socketpair()
        self.socket.setblocking(False)
        self.smarthost = Smarthost(ACCOUNT, Stream(SocketTransport(ours)), NONE, [])
        self.ended = False

    def end(self, last_words: bytes = b"") -> None:
        with suppress(BrokenPipeError):  # we were quicker
            self.socket.sendall(last_words)
        self.socket.shutdown(socket.SHUT_WR)
        self.ended = True

    def received(self) -> bytes | None:
        """What we said; None: nothing yet, and the connection is open."""
        try:
            return self.socket.recv(1000)
        except BlockingIOError:
            return None

    def close(self) -> None:
        self.smarthost.cut()
        self.socket.close()


@pytest.fixture
def peers() -> Iterator[list[Peer]]:
    peers = [Peer() for _ in range(12)]
    for peer in peers:
        peer.smarthost.born = 0.0
    yield peers
    for peer in peers:
        peer.close()


@pytest.fixture
def pool(clock: Clock, peers: list[Peer]) -> Iterator[Pool]:
    """It ends before the connections do that it keeps."""
    pool = Pool(30, clock)
    yield pool
    pool.close()


def test_nothing_is_kept_while_there_is_no_thread_to_end_it(pool: Pool, peers: list[Peer]) -> None:
    with no_threads():
        assert not pool.keep(b"alice at moon", peers[0].smarthost)
    assert pool.keep(b"alice at moon", peers[0].smarthost)
    assert pool.take(b"alice at moon") is peers[0].smarthost


def test_the_same_account_gets_a_connection_once(pool: Pool, peers: list[Peer]) -> None:
    assert pool.keep(b"alice at moon", peers[0].smarthost)
    assert pool.take(b"alice at sun") is None
    assert pool.take(b"alice at moon") is peers[0].smarthost
    assert pool.take(b"alice at moon") is None
    assert peers[0].received() is None


def test_the_connection_used_last_is_taken_first(pool: Pool, peers: list[Peer]) -> None:
    for peer in peers[:3]:
        pool.keep(b"alice", peer.smarthost)
    assert pool.take(b"alice") is peers[2].smarthost


def test_without_a_fingerprint_nothing_is_kept_or_taken(pool: Pool, peers: list[Peer]) -> None:
    assert not pool.keep(b"", peers[0].smarthost)
    assert pool.take(b"") is None


@pytest.mark.parametrize("last_words", [b"", b"421 4.4.2 Idle for too long\r\n"])
def test_a_connection_that_the_smarthost_has_ended_is_not_given_out(
    pool: Pool, peers: list[Peer], last_words: bytes
) -> None:
    pool.keep(b"alice", peers[0].smarthost)
    peers[0].end(last_words)
    assert pool.take(b"alice") is None


def test_a_connection_that_the_smarthost_ends_is_closed_though_nobody_asks(pool: Pool, peers: list[Peer]) -> None:
    pool.keep(b"alice", peers[0].smarthost)
    peers[0].end()
    wait_until(lambda: peers[0].received() == b"", "our side closes")


def test_a_connection_ends_with_quit_when_its_time_is_over(pool: Pool, peers: list[Peer], clock: Clock) -> None:
    pool.keep(b"alice", peers[0].smarthost)
    clock.now = 29.9
    assert pool.take(b"alice") is peers[0].smarthost
    pool.keep(b"alice", peers[0].smarthost)
    clock.now = 59.9
    assert pool.take(b"alice") is None
    assert peers[0].received() == b"QUIT\r\n"


def test_the_time_of_a_connection_ends_though_nobody_asks(peers: list[Peer]) -> None:
    pool = Pool(0.05)
    peers[0].smarthost.born = monotonic()
    assert pool.keep(b"alice", peers[0].smarthost)
    wait_until(lambda: peers[0].received() == b"QUIT\r\n", "QUIT")
    pool.close()


def test_a_connection_is_not_kept_for_ever(pool: Pool, peers: list[Peer], clock: Clock) -> None:
    peers[0].smarthost.mails = pools.MAX_MAILS
    assert not pool.keep(b"alice", peers[0].smarthost)
    peers[1].smarthost.mails = pools.MAX_MAILS - 1
    assert pool.keep(b"alice", peers[1].smarthost)
    clock.now = pools.LONGEST_LIFE
    assert not pool.keep(b"alice", peers[2].smarthost)


def test_of_an_account_only_so_many_are_kept(pool: Pool, peers: list[Peer]) -> None:
    kept = [pool.keep(b"alice", peer.smarthost) for peer in peers]
    assert kept == [True] * pools.MAX_OF_AN_ACCOUNT + [False] * (len(peers) - pools.MAX_OF_AN_ACCOUNT)
    assert pool.keep(b"bob", peers[-1].smarthost)


def test_where_too_many_are_kept_the_oldest_makes_room(
    pool: Pool, peers: list[Peer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pools, "MAX_KEPT", 2)
    for name, peer in zip((b"a", b"b", b"c"), peers, strict=False):
        assert pool.keep(name, peer.smarthost)
    assert peers[0].received() == b"QUIT\r\n"
    assert [pool.take(name) for name in (b"a", b"b", b"c")] == [None, peers[1].smarthost, peers[2].smarthost]


def test_zero_seconds_keep_nothing(peers: list[Peer]) -> None:
    pool = Pool(0)
    assert not pool.keep(b"alice", peers[0].smarthost)
    assert pool.take(b"alice") is None
    pool.close()


def test_at_the_end_all_are_quit_and_none_is_kept_any_more(peers: list[Peer], clock: Clock) -> None:
    pool = Pool(30, clock)
    pool.keep(b"alice", peers[0].smarthost)
    pool.close()
    assert peers[0].received() == b"QUIT\r\n"
    assert not pool.keep(b"alice", peers[1].smarthost)


# Users and their accounts, as fingerprints, and what may happen between their sessions.
deeds = st.tuples(
    st.sampled_from(["take", "keep", "dial early", "end", "421", "wait"]),
    st.sampled_from([b"alice 1", b"alice 2", b"bob"]),
)


@given(st.lists(deeds, max_size=40))
def test_whatever_happens_a_connection_serves_the_account_that_opened_it_and_is_alive(
    history: list[tuple[str, bytes]],
) -> None:
    clock = Clock()
    with ExitStack() as stack:
        pool = Pool(30, clock)
        opened: dict[Smarthost, tuple[bytes, Peer]] = {}
        in_use: dict[bytes, list[Smarthost]] = {}

        def open_one(fingerprint: bytes) -> Smarthost:
            peer = Peer()
            peer.smarthost.born = clock.now
            stack.callback(peer.close)
            opened[peer.smarthost] = (fingerprint, peer)
            return peer.smarthost

        for deed, fingerprint in history:
            match deed:
                case "take":
                    held = pool.holds(fingerprint)
                    smarthost = pool.take(fingerprint)
                    assert held == (smarthost is not None)
                    smarthost = smarthost or open_one(fingerprint)
                    assert opened[smarthost][0] == fingerprint
                    assert not opened[smarthost][1].ended
                    assert all(smarthost not in users for users in in_use.values())
                    in_use.setdefault(fingerprint, []).append(smarthost)
                case "keep" if in_use.get(fingerprint):
                    smarthost = in_use[fingerprint].pop()
                    if not pool.keep(fingerprint, smarthost):
                        smarthost.quit()
                case "dial early" if not pool.holds(fingerprint):
                    assert pool.keep(fingerprint, open_one(fingerprint))
                    assert pool.holds(fingerprint)
                case "end" | "421":
                    idle = [peer for owner, peer in opened.values() if owner == fingerprint and not peer.ended]
                    idle = [peer for peer in idle if peer.smarthost not in in_use.get(fingerprint, [])]
                    if idle:
                        idle[0].end(b"421 4.3.2 Bye\r\n" if deed == "421" and idle[0].received() is None else b"")
                case "wait":
                    clock.now += 12.5
        pool.close()
