"""The relay: what the dialogue files do not show, and what holds for any octets."""

import re
from collections.abc import Callable, Iterator

import pytest
from cuttings import cut, places
from hypothesis import example, given
from hypothesis import strategies as st

from sendooway.smtp import relay as relays
from sendooway.smtp.capabilities import Capabilities
from sendooway.smtp.command import Envelope
from sendooway.smtp.lines import LineReader
from sendooway.smtp.relay import MAX_EXPECTED, ROOM, Phase, Relay, Wait
from sendooway.smtp.reply import Reply, ReplyReader

TRACE = b"Received: by sendooway.test\r\n"


MAX_RECIPIENTS = 1000


def make(
    *,
    pipelining: bool = True,
    chunking: bool = False,
    trace: bytes = b"",
    size_limit: int | None = None,
    most_errors: int | None = None,
) -> Relay:
    return Relay(
        LineReader(),
        Envelope("alice@moon.test", {}),
        Capabilities(({"PIPELINING": ""} if pipelining else {}) | ({"CHUNKING": ""} if chunking else {})),
        trace=trace,
        size_limit=size_limit,
        most_recipients=MAX_RECIPIENTS,
        most_errors=most_errors,
        sign=lambda told: Reply(told.code, told.enhanced, (*told.text, "signed")),
    )


def take(octets: bytearray) -> bytes:
    taken = bytes(octets)
    octets.clear()
    return taken


def before_data(relay: Relay) -> None:
    """One recipient is accepted."""
    relay.receive_from_client(b"RCPT TO:<bob@sun.test>\r\n")
    relay.for_smarthost.clear()
    relay.receive_from_smarthost(b"250 Ok\r\n" * (1 if relay.accepted else 2))
    relay.for_client.clear()
    relay.for_smarthost.clear()


def in_body(**options: object) -> Relay:
    """A relay in the body, where both sides have been sent all there was."""
    relay = make(**options)  # type: ignore[arg-type]
    before_data(relay)
    relay.receive_from_client(b"DATA\r\n")
    relay.for_smarthost.clear()
    relay.receive_from_smarthost(b"354 Go on\r\n")
    relay.for_client.clear()
    relay.for_smarthost.clear()
    assert relay.phase is Phase.MESSAGE
    return relay


def at_the_end(**options: object) -> Relay:
    """A relay that waits for the reply to the final dot, which the smarthost has seen."""
    relay = in_body(**options)
    relay.receive_from_client(b"Hello\r\n.\r\n")
    relay.for_smarthost.clear()
    assert relay.phase is Phase.FINAL
    return relay


def test_what_is_withheld_of_a_reply_reaches_neither_client_nor_log() -> None:
    relay = Relay(
        LineReader(),
        Envelope("alice@moon.test", {}),
        Capabilities({}),
        withhold=lambda said: Reply(said.code, said.enhanced, ("(withheld)",)),
    )
    relay.receive_from_smarthost(b"550 5.7.8 hunter2 no\r\n")
    assert take(relay.for_client) == b"550 5.7.8 (withheld)\r\n"
    assert relay.refusal == Reply(550, "5.7.8", ("(withheld)",))


# What became of the mail


def test_the_outcome_of_a_mail() -> None:
    relay = in_body(trace=TRACE)
    relay.receive_from_client(b"Hello\r\n..\r\n.\r\n")
    relay.for_smarthost.clear()
    relay.receive_from_smarthost(b"250 2.0.0 Queued\r\n")
    verdict = Reply(250, "2.0.0", ("Queued",))
    assert relay.done
    assert relay.lost is None
    assert relay.outcome == relays.Outcome(verdict, verdict, octets=len("Hello\r\n..\r\n"), recipients=1)


@pytest.mark.parametrize("trace", [b"", TRACE])
@pytest.mark.parametrize(
    ("message", "octets"), [(b".\r\n", 0), (b"\r\n.\r\n", 2), (b"..\r\n.\r\n", 4), (b"a\r\n\r\n.\r\n", 5)]
)
def test_octets_are_those_of_the_message_alone(message: bytes, octets: int, trace: bytes) -> None:
    for pieces in ([message], [message[at : at + 1] for at in range(len(message))]):
        relay = in_body(trace=trace)
        for piece in pieces:
            relay.receive_from_client(piece)
            relay.for_smarthost.clear()
        relay.receive_from_smarthost(b"250 Ok\r\n")
        assert relay.outcome is not None
        assert relay.outcome.octets == octets


def test_why_mail_was_refused() -> None:
    relay = make()
    relay.receive_from_smarthost(b"550 5.7.1 Not you\r\n")
    assert not relay.accepted
    assert relay.refusal == Reply(550, "5.7.1", ("Not you",))


def test_a_message_that_was_refused_here_has_no_verdict() -> None:
    relay = in_body()
    relay.receive_from_client(b"a\0\r\n.\r\n")
    assert take(relay.for_client).startswith(b"550-5.6.0 ")
    assert relay.outcome is not None
    assert relay.outcome.verdict is None
    assert relay.outcome.reply.code == 550


def test_our_own_trouble_is_signed_and_the_smarthosts_words_are_not() -> None:
    lost = make()
    lost.lose("it vanished")
    assert take(lost.for_client) == b"451-4.4.2 The smarthost was lost: it vanished\r\n451 4.4.2 signed\r\n"
    early = in_body()
    early.receive_from_smarthost(b"552 5.3.4 Too big\r\n")
    early.receive_from_client(b".\r\n")
    assert take(early.for_client) == b"552 5.3.4 Too big\r\n"


def test_without_a_signature_replies_are_as_they_are() -> None:
    relay = Relay(LineReader(), Envelope("", {}), Capabilities({}))
    assert take(relay.for_smarthost) == b"MAIL FROM:<>\r\n"
    relay.lose("it vanished")
    assert take(relay.for_client) == b"451 4.4.2 The smarthost was lost: it vanished\r\n"


# Limits


def test_a_message_as_large_as_the_limit_passes() -> None:
    relay = in_body(size_limit=7, trace=TRACE)
    relay.receive_from_client(b"Hello\r\n.\r\n")
    assert take(relay.for_smarthost) == b"Hello\r\n.\r\n"
    assert relay.lost is None


def test_a_larger_message_is_given_up_and_read_to_its_end() -> None:
    relay = in_body(size_limit=6, trace=TRACE)
    relay.receive_from_client(b"Hello\r\n more")
    assert relay.lost is not None
    assert take(relay.for_smarthost) == b""
    assert take(relay.for_client) == b""
    relay.receive_from_client(b"\r\n.\r\nQUIT\r\n")
    assert take(relay.for_client).startswith(b"552-5.3.4 ")
    assert relay.done


@pytest.mark.parametrize("bad", [b"\0", b"a\nb", b"a\rb"])
def test_what_still_waits_of_a_message_that_cannot_be_carried_never_leaves(bad: bytes) -> None:
    relay = in_body()
    relay.receive_from_client(b"Hello")
    relay.receive_from_client(bad)
    assert relay.lost is not None
    assert take(relay.for_smarthost) == b""


def test_what_still_waits_when_the_client_leaves_never_leaves() -> None:
    relay = in_body()
    relay.receive_from_client(b"Hello\r\n")
    relay.client_closed()
    assert relay.done
    assert take(relay.for_smarthost) == b""


def test_the_last_of_too_many_errors_ends_the_mail_behind_the_replies_that_are_awaited() -> None:
    relay = make(most_errors=3)
    relay.receive_from_client(b"RCPT\r\nETRN\r\nNOOP\r\n")
    take(relay.for_smarthost)
    relay.receive_from_smarthost(b"250 Ok\r\n250 Noop\r\n")
    take(relay.for_client)
    assert (relay.errors, relay.done) == (2, False)
    relay.receive_from_client(b"RCPT TO:<bob@sun.test>\r\nRCPT\r\nRCPT TO:<eve@sun.test>\r\nDATA\r\n")
    assert take(relay.for_smarthost) == b"RCPT TO:<bob@sun.test>\r\n"
    assert (relay.errors, relay.done, relay.wants_client) == (3, False, False)
    relay.receive_from_smarthost(b"250 2.1.5 Ok\r\n")
    assert take(relay.for_client) == b"250 2.1.5 Ok\r\n421 4.7.0 Too many errors, closing\r\n"
    assert relay.done
    assert (relay.outcome, relay.lost) == (None, None)


def test_too_many_recipients() -> None:
    relay = make()
    for _ in range(MAX_RECIPIENTS - 1):
        before_data(relay)
    relay.receive_from_client(b"RCPT TO:<a@sun.test>\r\nRCPT TO:<b@sun.test>\r\n")
    assert take(relay.for_smarthost) == b"RCPT TO:<a@sun.test>\r\n"
    relay.receive_from_smarthost(b"550 No\r\n")
    assert take(relay.for_client) == (
        b"550 5.0.0 No\r\n452 4.5.3 Too many recipients, the limit is " + str(MAX_RECIPIENTS).encode("ascii") + b"\r\n"
    )
    # What the smarthost refused does not count.
    before_data(relay)
    assert relay.recipients == MAX_RECIPIENTS
    relay.receive_from_client(b"RCPT TO:<b@sun.test>\r\n")
    assert take(relay.for_client).startswith(b"452 ")
    assert take(relay.for_smarthost) == b""


def test_a_client_that_pipelines_without_end_has_to_wait() -> None:
    relay = make()
    relay.for_smarthost.clear()
    relay.receive_from_client(b"NOOP\r\n" * 2 * MAX_EXPECTED)
    assert take(relay.for_smarthost).count(b"NOOP\r\n") == MAX_EXPECTED - 1
    relay.receive_from_smarthost(b"250 Ok\r\n" * 3)
    assert take(relay.for_smarthost) == b"NOOP\r\n" * 3


def test_a_client_that_says_more_than_the_smarthost_takes_has_to_wait() -> None:
    relay = in_body()
    while relay.wants_client:
        relay.receive_from_client(b"x" * 16384)
    assert ROOM <= len(relay.for_smarthost) <= ROOM + 16384
    relay.for_smarthost.clear()
    assert relay.wants_client


def test_a_client_that_does_not_wait_for_354_has_to_wait() -> None:
    relay = make()
    relay.receive_from_client(b"DATA\r\n")
    while relay.wants_client:
        relay.receive_from_client(b"x" * 16384)
    assert not relay.for_smarthost.endswith(b"x")


def test_a_client_that_does_not_listen_is_not_heard() -> None:
    relay = make()
    relay.receive_from_smarthost(b"250 Ok\r\n")
    pieces = 0
    while relay.wants_client:
        relay.receive_from_client(b"RCPT TO:bad\r\n" * 100)
        pieces += 1
        assert pieces < 1000
    relay.for_client.clear()
    assert relay.wants_client


def test_one_burst_of_tiny_lines_makes_no_mountain_of_answers() -> None:
    relay = make()
    take(relay.for_smarthost)
    relay.receive_from_smarthost(b"250 Ok\r\n")
    lines = 20_000
    relay.receive_from_client(b"@\r\n" * lines)
    heard = b""
    while relay.for_client:
        assert len(relay.for_client) <= ROOM + 100
        heard += take(relay.for_client)
        relay.client_listened()
    assert heard.count(b"\r\n") == lines + 1


def test_a_smarthost_that_says_more_than_the_client_takes_has_to_wait() -> None:
    relay = make()
    relay.receive_from_client(b"HELP\r\n" * 900)
    relay.for_smarthost.clear()
    while relay.wants_smarthost:
        relay.receive_from_smarthost(b"214 " + b"x" * 490 + b"\r\n")
    assert relay.lost is None
    relay.for_client.clear()
    assert relay.wants_smarthost


def test_nothing_is_wanted_of_those_who_are_gone() -> None:
    relay = make()
    relay.client_closed()
    assert not relay.wants_client
    relay.lose("it vanished")
    assert not relay.wants_smarthost
    assert relay.done


def test_a_client_that_says_no_more_still_hears_its_replies() -> None:
    relay = make()
    relay.receive_from_client(b"NOOP\r\n")
    relay.for_smarthost.clear()
    relay.client_closed()
    answers = 0
    while not relay.done:
        relay.receive_from_smarthost(b"250 Ok\r\n")
        answers += 1
    assert answers == 2
    assert take(relay.for_client) == b"250 2.0.0 Ok\r\n" * 2


# Chunks


@pytest.mark.parametrize("chunking", [True, False])
def test_the_outcome_of_a_message_in_chunks(chunking: bool) -> None:
    relay = make(chunking=chunking, trace=TRACE)
    before_data(relay)
    for command in (b"BDAT 5\r\n.a\r\n.", b"BDAT 2 LAST\r\nb\n"[:-1] + b"c"):
        relay.receive_from_client(command)
        if not chunking and relay.phase is Phase.DATA_SENT:
            relay.for_smarthost.clear()
            relay.receive_from_smarthost(b"354 Go on\r\n")
        relay.for_smarthost.clear()
        if chunking or relay.phase is Phase.FINAL:
            relay.receive_from_smarthost(b"250 2.0.0 Fine\r\n")
    verdict = Reply(250, "2.0.0", ("Fine",))
    assert relay.done
    assert relay.ended
    assert relay.lost is None
    assert relay.outcome == relays.Outcome(verdict, verdict, octets=7, recipients=1)


def test_the_first_refusal_of_a_chunk_is_the_outcome() -> None:
    relay = make(chunking=True)
    before_data(relay)
    relay.receive_from_client(b"BDAT 1\r\na")
    relay.for_smarthost.clear()
    relay.receive_from_smarthost(b"452 4.3.1 Full\r\n")
    relay.receive_from_client(b"BDAT 1 LAST\r\nb")
    verdict = Reply(452, "4.3.1", ("Full",))
    assert relay.done
    assert relay.outcome == relays.Outcome(verdict, verdict, octets=1, recipients=1)
    # The smarthost's transaction waits for RSET.
    assert relay.accepted
    assert not relay.ended
    assert relay.lost is None


def test_a_chunk_behind_a_refused_mail_changes_nothing_of_its_refusal() -> None:
    relay = make(chunking=True)
    relay.for_smarthost.clear()
    relay.receive_from_smarthost(b"550 5.7.1 Not you\r\n")
    relay.receive_from_client(b"BDAT 1 LAST\r\nx")
    assert last_lines(take(relay.for_client)) == [b"550 5.7.1 Not you", b"503 5.5.1 MAIL first"]
    assert not relay.done
    assert relay.outcome is None
    assert relay.refusal == Reply(550, "5.7.1", ("Not you",))


def test_a_chunk_that_is_refused_here_has_no_verdict() -> None:
    relay = make(chunking=True)
    before_data(relay)
    relay.receive_from_client(b"BDAT 2\r\na\0RSET\r\n")
    assert relay.done
    assert relay.outcome is not None
    assert relay.outcome.verdict is None
    assert relay.outcome.reply.code == 550
    assert take(relay.for_client) == (b"550-5.6.0 The message has a bare CR, bare LF or NUL\r\n550 5.6.0 signed\r\n")


def test_what_is_waited_for_with_chunks() -> None:
    relay = make(chunking=True)
    before_data(relay)
    waits = []
    for receive, octets in [
        (relay.receive_from_client, b"BDAT 2\r\na"),
        (relay.receive_from_client, b"b"),
        (relay.receive_from_smarthost, b"250 Ok\r\n"),
        (relay.receive_from_client, b"BDAT 0 LAST\r\n"),
    ]:
        receive(octets)
        relay.for_smarthost.clear()
        waits.append(relay.wait)
    # Between two chunks, the client is not idle: its message has begun.
    assert waits == [Wait.CLIENT_BODY, Wait.CHUNK_REPLY, Wait.CLIENT_BODY, Wait.FINAL_REPLY]


@pytest.mark.parametrize("chunking", [True, False])
def test_a_chunk_without_end_takes_no_memory(chunking: bool) -> None:
    relay = make(chunking=chunking)
    before_data(relay)
    relay.receive_from_client(b"BDAT 9223372036854775807 LAST\r\n")
    if not chunking:
        # It waits for the 354, and so does the client.
        while relay.wants_client:
            relay.receive_from_client(b"x" * 16384)
        relay.for_smarthost.clear()
        relay.receive_from_smarthost(b"354 Go on\r\n")
    passed_on = 0
    for _ in range(100):
        while relay.wants_client:
            relay.receive_from_client(b"x" * 16384)
        assert len(relay.for_smarthost) + len(relay._lines) <= 2 * ROOM + 16384
        passed_on += len(take(relay.for_smarthost))
    assert passed_on > 50 * ROOM
    assert relay.phase is Phase.MESSAGE


def test_a_refused_chunk_without_end_takes_no_memory() -> None:
    relay = make(chunking=True, size_limit=1)
    before_data(relay)
    relay.receive_from_client(b"BDAT 9223372036854775808 LAST\r\n")
    for _ in range(100):
        assert relay.wants_client
        relay.receive_from_client(b"x" * 16384)
        assert len(relay._lines) == len(relay.for_smarthost) == len(relay.for_client) == 0


@pytest.mark.parametrize("chunking", [True, False])
def test_many_tiny_chunks_in_one_piece(chunking: bool) -> None:
    relay = make(chunking=chunking)
    before_data(relay)
    message = b"x" * 2000
    model = Model(pipelining=True)
    model._recipients = 1
    heard = converse(relay, model, iter([b"BDAT 1\r\nx" * len(message) + b"BDAT 0 LAST\r\n"]), answer_late=False)
    assert last_lines(heard) == [b"250 2.0.0 %s" % line for line in expected_of_chunks(len(message), chunking)] + [
        b"250 2.0.0 Message 1"
    ]
    assert model.messages == [message if chunking else message + b"\r\n"]


def expected_of_chunks(number: int, chunking: bool) -> list[bytes]:
    return [b"Chunk" if chunking else b"%d octets received" % octets for octets in range(1, number + 1)]


# Waiting


def test_what_is_waited_for() -> None:
    relay = make()
    waits = [relay.wait]
    before_data(relay)
    waits.append(relay.wait)
    relay.receive_from_client(b"DATA\r\n")
    relay.for_smarthost.clear()
    waits.append(relay.wait)
    relay.receive_from_smarthost(b"354 Go on\r\n")
    waits.append(relay.wait)
    relay.receive_from_client(b".\r\n")
    waits.append(relay.wait)
    assert waits == [Wait.REPLY, Wait.CLIENT_COMMAND, Wait.DATA_REPLY, Wait.CLIENT_BODY, Wait.FINAL_REPLY]


def test_a_body_for_nobody_is_waited_for_too() -> None:
    relay = in_body()
    relay.lose("it vanished")
    assert relay.phase is Phase.DISCARD
    assert relay.wait is Wait.CLIENT_BODY


def test_commands_replies_and_bodies_are_progress() -> None:
    relay = make()
    seen = [relay.progress]
    for receive, octets in [
        (relay.receive_from_smarthost, b"250 Ok\r\n"),
        (relay.receive_from_client, b"RCPT TO:<bob@sun.test>\r\n"),
        (relay.receive_from_smarthost, b"250 Ok\r\n"),
        (relay.receive_from_client, b"DATA\r\n"),
        (relay.receive_from_smarthost, b"354 Go on\r\n"),
        (relay.receive_from_client, b"x"),
    ]:
        relay.for_smarthost.clear()
        receive(octets)
        assert relay.progress > seen[-1]
        seen.append(relay.progress)


def test_half_a_line_is_no_progress() -> None:
    # Or a client could hold a smarthost for ever by saying an octet now and then.
    relay = make()
    relay.receive_from_client(b"NO")
    relay.receive_from_smarthost(b"25")
    assert relay.progress == 0


# The smarthost lost


def test_delivery_is_unknown_once_the_final_dot_has_left() -> None:
    relay = at_the_end()
    relay.lose("it vanished")
    assert take(relay.for_client).startswith(
        b"451-4.4.2 The smarthost was lost, whether it delivers the message is unknown: it vanished\r\n"
    )
    relay = in_body()
    relay.receive_from_client(b"Hello\r\n.\r\n")
    relay.lose("it vanished")
    assert take(relay.for_client).startswith(b"451-4.4.2 The smarthost was lost: it vanished\r\n")


# The smarthost out of step


def test_a_positive_reply_before_the_message_has_left_is_none() -> None:
    relay = in_body()
    relay.receive_from_client(b"Hello\r\n.\r\n")
    relay.receive_from_smarthost(b"250 Queued\r\n")
    assert take(relay.for_client).startswith(b"451-4.4.2 ")
    assert relay.done
    assert relay.lost is not None
    assert take(relay.for_smarthost) == b""


def test_a_positive_reply_that_came_with_354_is_none() -> None:
    # The client did not wait for the 354, and the smarthost cannot have seen the message.
    relay = make()
    before_data(relay)
    relay.receive_from_client(b"DATA\r\nHello\r\n.\r\n")
    assert take(relay.for_smarthost) == b"DATA\r\n"
    relay.receive_from_smarthost(b"354 Go on\r\n250 Queued\r\n")
    heard = take(relay.for_client)
    assert heard.startswith(b"354 Go on\r\n451-4.4.2 ")
    assert b"250" not in re.findall(rb"^\d{3}", heard, re.MULTILINE)
    assert take(relay.for_smarthost) == b""


def test_a_positive_reply_to_a_command_that_has_not_left_is_none() -> None:
    relay = make()
    relay.for_smarthost.clear()
    relay.receive_from_smarthost(b"250 Ok\r\n")
    relay.receive_from_client(b"RCPT TO:<a@sun.test>\r\nRCPT TO:<b@sun.test>\r\n")
    # The first command has left, and half of the second one.
    del relay.for_smarthost[: relay.for_smarthost.find(b"\n") + 6]
    relay.receive_from_smarthost(b"250 A\r\n250 B\r\n")
    heard = take(relay.for_client)
    assert re.findall(rb"^\d{3} ", heard, re.MULTILINE) == [b"250 ", b"250 ", b"451 "]
    assert relay.recipients == 1
    assert relay.lost is not None


@pytest.mark.parametrize("last", [b"", b" LAST"])
def test_a_positive_reply_to_a_chunk_that_has_not_left_is_none(last: bytes) -> None:
    relay = make(chunking=True)
    before_data(relay)
    relay.receive_from_client(b"BDAT 5%s\r\nHello" % last)
    del relay.for_smarthost[:-1]
    relay.receive_from_smarthost(b"250 Ok\r\n")
    assert take(relay.for_client).startswith(b"451-4.4.2 ")
    assert relay.lost is not None


def test_354_before_data_has_left_is_none() -> None:
    relay = make()
    before_data(relay)
    relay.receive_from_client(b"DATA\r\n")
    relay.receive_from_smarthost(b"354 Go on\r\n")
    assert take(relay.for_client).startswith(b"451-4.4.2 ")
    assert relay.lost is not None


def test_a_verdict_before_the_end_of_the_message_is_the_smarthosts_own() -> None:
    relay = in_body()
    relay.receive_from_smarthost(b"552 5.3.4 Too big\r\n")
    relay.receive_from_client(b"Hello\r\n.\r\n")
    assert relay.outcome is not None
    assert relay.outcome.verdict == relay.outcome.reply == Reply(552, "5.3.4", ("Too big",))
    assert relay.lost is not None


def test_a_refusal_before_the_message_has_left_stands_and_the_rest_never_leaves() -> None:
    relay = in_body()
    relay.receive_from_client(b"Hello\r\n.\r\n")
    relay.receive_from_smarthost(b"552 5.3.4 Too big\r\n")
    assert take(relay.for_client) == b"552 5.3.4 Too big\r\n"
    assert relay.outcome is not None
    assert relay.outcome.verdict == Reply(552, "5.3.4", ("Too big",))
    assert take(relay.for_smarthost) == b""
    # Its next command would be read as a part of the message.
    assert relay.lost is not None


def test_a_farewell_to_a_command_that_has_not_left_is_passed_on() -> None:
    relay = make()
    relay.receive_from_smarthost(b"421 4.3.2 Shutting down\r\n")
    assert take(relay.for_client) == b"421 4.3.2 Shutting down\r\n"


@pytest.mark.parametrize("more", [b"250 Ok\r\n", b"421 Bye\r\n", b"2", b"\0"])
def test_who_says_more_than_the_verdict_gets_no_other_mail(more: bytes) -> None:
    relay = at_the_end()
    relay.receive_from_smarthost(b"250 Queued\r\n" + more)
    assert take(relay.for_client) == b"250 2.0.0 Queued\r\n"
    assert relay.done
    assert relay.outcome is not None
    assert relay.outcome.verdict == relay.outcome.reply == Reply(250, "", ("Queued",))
    assert relay.lost is not None


def test_who_says_half_a_reply_too_many_gets_no_other_mail() -> None:
    relay = make()
    relay.receive_from_client(b"RSET\r\n")
    relay.receive_from_smarthost(b"250 Ok\r\n25")
    assert relay.done
    assert relay.lost is not None


def test_who_refuses_before_it_was_asked_gets_no_other_mail() -> None:
    relay = make()
    relay.receive_from_client(b"RSET\r\n")
    relay.receive_from_smarthost(b"550 No\r\n")
    assert take(relay.for_client) == b"550 5.0.0 No\r\n"
    assert relay.done
    assert take(relay.for_smarthost) == b""
    assert relay.lost is not None


def test_a_smarthost_can_be_lost_only_once() -> None:
    relay = in_body()
    relay.lose("it vanished")
    relay.lose("it vanished again")
    relay.receive_from_client(b".\r\n")
    assert relay.lost == "it vanished"
    relay.lose("it is still not there")
    assert relay.lost == "it vanished"
    assert take(relay.for_client).startswith(b"451-4.4.2 The smarthost was lost: it vanished\r\n")


def test_a_smarthost_that_is_lost_after_the_verdict_does_not_change_it() -> None:
    relay = at_the_end()
    relay.receive_from_smarthost(b"250 Queued\r\n")
    relay.for_client.clear()
    relay.lose("it vanished")
    assert take(relay.for_client) == b""
    assert relay.outcome is not None
    assert relay.outcome.reply.code == 250


# A smarthost that answers in order, and a client that says anything


class Model:
    """A smarthost that answers what it is sent, in order, and repeats it; RCPT to an address with `refused` it refuses.

    `messages` are those it accepted, with all octets up to the dot of their end.
    """

    def __init__(self, pipelining: bool) -> None:
        self.pipelining = pipelining
        self.received = b""
        self.messages: list[bytes] = []
        self._buffer = b""
        self._in_body = False
        self._recipients = 0
        self._chunks = b""

    def receive(self, octets: bytes) -> bytes:
        self.received += octets
        self._buffer += octets
        said = b""
        while (answer := self._next()) is not None:
            said += answer
        return said

    def _next(self) -> bytes | None:
        if self._in_body:
            end = (b"\r\n" + self._buffer).find(b"\r\n.\r\n")
            if end < 0:
                return None
            self.messages.append(self._buffer[:end])
            self._buffer = self._buffer[end + 3 :]
            self._in_body = False
            return b"250 2.0.0 Message %d\r\n" % len(self.messages)
        line, end_of_line, rest = self._buffer.partition(b"\r\n")
        if not end_of_line:
            return None
        self._buffer = rest
        assert not re.search(rb"[\r\n\0]", line), line
        if line.startswith(b"DATA"):
            assert not rest, "pipelined behind DATA"
            self._in_body = self._recipients > 0
            return b"354 Go on\r\n" if self._in_body else b"554 5.5.1 Nobody\r\n"
        if line.startswith(b"BDAT"):
            assert self._recipients
            size = int(line.split()[1])
            if len(rest) < size:
                self._buffer = line + end_of_line + rest
                return None
            self._chunks += rest[:size]
            self._buffer = rest[size:]
            assert not self._buffer, "pipelined behind a chunk"
            if not line.endswith(b" LAST"):
                return b"250 2.0.0 Chunk\r\n"
            self.messages.append(self._chunks)
            return b"250 2.0.0 Message %d\r\n" % len(self.messages)
        assert self.pipelining or not rest, "pipelined"
        if line.startswith(b"RCPT"):
            refused = b"refused" in line
            self._recipients += not refused
            return b"550-5.1.1 No\r\n550 5.1.1 %s\r\n" % line if refused else b"250 2.1.5 %s\r\n" % line
        return b"250 2.0.0 %s\r\n" % line


COMMANDS = [
    # what the client says, and how the reply to it begins
    (b"RCPT TO:<bob%d@sun.test>", b"250 2.1.5 RCPT TO:<bob%d@sun.test>"),
    (b"rcpt to:<refused%d@sun.test>", b"550 5.1.1 RCPT TO:<refused%d@sun.test>"),
    (b"RCPT TO:bad%d", b"501 5.1.3 "),
    (b"NOOP %d", b"250 2.0.0 NOOP %d"),
    (b"What %d", b"250 2.0.0 What %d"),
    (b"XCLIENT %d", b"502 5.5.1 "),
    (b"\x80 %d", b"500 5.5.2 "),
    (b"MAIL FROM:<%d@sun.test>", b"503 5.5.1 "),
    (b"AUTH PLAIN %d", b"503 5.5.1 "),
    (b"DATA %d", b"500 5.5.2 "),
]

body_octets = st.lists(
    st.sampled_from([b"\r\n", b".", b"\r\n.", b"..", b"x", b"\xff", b"\r", b"\n", b"\0", b"\r\n.\r\n"]), max_size=20
).map(b"".join)
good_body = st.lists(st.sampled_from([b"\r\n", b"..", b".x", b"x", b"\xff", b"x." * 50]), max_size=20).map(
    lambda parts: b"".join(parts).replace(b"\r\n.\r\n", b"\r\n..\r\n")
)


def last_lines(heard: bytes) -> list[bytes]:
    return re.findall(rb"^\d{3}(?: [^\n]*)?$", heard.replace(b"\r\n", b"\n"), re.MULTILINE)


def converse(relay: Relay, model: Model, pieces: Iterator[bytes], answer_late: bool) -> bytes:
    """All that the client hears. A late smarthost answers when there is nothing more to send."""
    heard = b""
    said = b""

    def flush() -> None:
        nonlocal heard, said
        while True:
            heard += take(relay.for_client)
            said += model.receive(take(relay.for_smarthost))
            if not said or relay.lost is not None:
                return
            now, said = said, b""
            relay.receive_from_smarthost(now)

    flush_now: Callable[[], None] = (lambda: None) if answer_late else flush
    flush_now()
    for piece in pieces:
        relay.receive_from_client(piece)
        flush_now()
    flush()
    return heard


@given(
    st.lists(st.sampled_from(COMMANDS), max_size=30),
    st.booleans(),
    st.booleans(),
    places,
    good_body,
    st.binary(max_size=9),
)
def test_the_nth_reply_belongs_to_the_nth_command(
    commands: list[tuple[bytes, bytes]],
    pipelining: bool,
    answer_late: bool,
    where: list[int],
    body: bytes,
    tail: bytes,
) -> None:
    commands = [*commands, COMMANDS[0]]
    said = b"".join(line.replace(b"%d", b"%d" % number) + b"\r\n" for number, (line, _) in enumerate(commands))
    expected = [b"250 2.0.0 MAIL"] + [
        start.replace(b"%d", b"%d" % number) for number, (_, start) in enumerate(commands)
    ]
    relay = make(pipelining=pipelining, trace=TRACE)
    model = Model(pipelining)
    lines = relay._lines
    message = body + (b"" if body.endswith(b"\r\n") or not body else b"\r\n")

    heard = last_lines(converse(relay, model, cut(said + b"DATA\r\n", where), answer_late))
    assert [line[: len(start)] for line, start in zip(heard, [*expected, b"354 "], strict=True)] == [*expected, b"354 "]

    heard = last_lines(converse(relay, model, cut(message + b".\r\n" + tail, where), answer_late))
    assert heard == [b"250 2.0.0 Message 1"]
    assert relay.outcome is not None
    assert relay.outcome.octets == len(message)
    assert model.messages == [TRACE + message]
    # What was not passed on waits for the session.
    assert lines.take() == tail


chunks = st.lists(body_octets, min_size=1, max_size=5)


def as_bdat(parts: list[bytes]) -> bytes:
    return b"".join(
        b"BDAT %d%s\r\n%s" % (len(part), b" LAST" if number == len(parts) else b"", part)
        for number, part in enumerate(parts, 1)
    )


@given(chunks, places, st.booleans(), st.booleans(), st.booleans(), st.binary(max_size=9))
@example([b"x\r", b"\n.\r\n.", b"", b"\r", b"\n.x"], [3, 20, 21, 30], False, False, True, b"")
@example([b"x\r", b""], [], True, False, False, b"NOOP\r\n")
def test_a_message_in_chunks_is_passed_on_unchanged_or_not_ended(
    parts: list[bytes], where: list[int], chunking: bool, answer_late: bool, pipelining: bool, tail: bytes
) -> None:
    relay, model = make(chunking=chunking, pipelining=pipelining, trace=TRACE), Model(pipelining)
    lines = relay._lines
    said = b"RCPT TO:<bob@sun.test>\r\n" + as_bdat(parts) + tail
    heard = last_lines(converse(relay, model, cut(said, where), answer_late))
    message = b"".join(parts)
    if not re.search(rb"\0|\r(?!\n)|(?<!\r)\n", message):
        if not chunking:
            dotted = (b"\r\n" + message).replace(b"\r\n.", b"\r\n..")[2:]
            message = dotted if (b"\r\n" + dotted).endswith(b"\r\n") else dotted + b"\r\n"
        assert model.messages == [TRACE + message]
        assert [line[:3] for line in heard] == [b"250"] * (2 + len(parts))
        assert heard[-1] == b"250 2.0.0 Message 1"
        assert relay.lost is None
    else:
        assert model.messages == []
        assert [line[:3] for line in heard[:2]] == [b"250"] * 2
        codes = [line[:3] for line in heard[2:]]
        # From the first chunk that is bad, all of them are refused.
        assert codes == sorted(codes)
        assert codes[-1] == b"550"
        assert len(codes) == len(parts)
        assert relay.lost is not None
    assert relay.done
    assert relay.outcome is not None
    assert relay.outcome.octets <= sum(map(len, parts))
    assert lines.take() == tail


@given(st.lists(body_octets, max_size=4).map(b"".join), places, st.booleans())
@example(b"\r.\r\nx", [1], False)
@example(b"\n.\r\n.\r\n", [2], True)
def test_a_message_is_passed_on_unchanged_or_not_ended(octets: bytes, where: list[int], client_closes: bool) -> None:
    relay = in_body(trace=TRACE)
    lines = relay._lines
    passed_on = b""
    for piece in cut(octets, where):
        relay.receive_from_client(piece)
        passed_on += take(relay.for_smarthost)
    if client_closes:
        relay.client_closed()
    end = (b"\r\n" + octets).find(b"\r\n.\r\n")
    message, rest = (octets, b"") if end < 0 else (octets[: end + 3], octets[end + 3 :])
    carriable = not re.search(
        rb"\0|\r(?!\n)|(?<!\r)\n", message + (b"\n" if message.endswith(b"\r") and end < 0 else b"")
    )
    # Never anything but a beginning of what the client said, never more than one end, and that one only when it is its.
    assert message.startswith(passed_on)
    assert (b"\r\n" + passed_on).endswith(b"\r\n.\r\n") == (end >= 0 and carriable)
    assert relay.lost is None or not (carriable and end >= 0)
    if end >= 0 and carriable:
        assert passed_on == message
        assert relay.phase is Phase.FINAL
    elif end >= 0:
        assert take(relay.for_client).startswith(b"550-5.6.0 ")
        assert relay.done
    elif client_closes:
        assert relay.done
        assert relay.lost is not None
    elif relay.lost is None:
        assert len(octets) - len(passed_on) <= 4
    if end >= 0:
        assert lines.take() == rest


@given(
    st.lists(
        st.sampled_from(
            [
                b"RCPT TO:<bob@sun.test>\r\n",
                b"DATA\r\n",
                b"NOOP\r\n",
                b"Hello\r\n",
                b".\r\n",
                b"a\nb",
                b"\r\n",
                b"RSET\r\n",
                b"RCPT",
                b"BDAT 3\r\n",
                b"BDAT 0\r\n",
                b"BDAT 7 LAST\r\n",
                b"BDAT x\r\n",
            ]
        ),
        max_size=25,
    ).map(b"".join),
    st.booleans(),
    st.booleans(),
    places,
)
def test_any_cutting_gives_the_same_dialogue(said: bytes, pipelining: bool, chunking: bool, where: list[int]) -> None:
    results = []
    for pieces in ([said], list(cut(said, where))):
        relay, model = make(pipelining=pipelining, chunking=chunking), Model(pipelining)
        heard = converse(relay, model, iter(pieces), answer_late=False)
        # What a message that was cut short had of its octets is a matter of time.
        outcome = relay.outcome if relay.lost is None else relay.outcome and relay.outcome.reply
        received = model.received if relay.lost is None else b""
        results.append((heard, received, model.messages, relay.phase, relay.lost, outcome, relay._lines.take()))
    assert results[0] == results[1]


def has_last_chunk(sent: bytes) -> bool:
    """Whether these octets for a smarthost end with a whole message in chunks."""
    while sent:
        line, _, sent = sent.partition(b"\r\n")
        if line.startswith(b"BDAT"):
            size = int(line.split()[1])
            if line.endswith(b" LAST"):
                return len(sent) == size
            sent = sent[size:]
    return False


REPLIES = [
    b"250 Ok\r\n",
    b"354 Go on\r\n",
    b"550 No\r\n",
    b"421 Bye\r\n",
    b"250-a\r\n250 b\r\n",
    b"334 \r\n",
    b"250",
    b"x\r\n",
    b"\0",
]


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("smarthost"), st.sampled_from(REPLIES)),
            st.tuples(
                st.just("client"),
                st.sampled_from(
                    [
                        b"RCPT TO:<bob@sun.test>\r\nDATA\r\n",
                        b"Hello",
                        b"\r\n.\r\n",
                        b"\0",
                        b"QUIT\r\n",
                        b"NOOP\r\n",
                        b"BDAT 5\r\n",
                        b"BDAT 5 LAST\r\n",
                        b"BDAT 0 LAST\r\n",
                    ]
                ),
            ),
            st.tuples(st.sampled_from(["client closes", "smarthost closes", "all sent"]), st.just(b"")),
        ),
        max_size=40,
    ),
    st.sampled_from(["at MAIL", "at DATA or BDAT", "in the body"]),
    st.booleans(),
)
def test_whatever_happens_there_is_no_false_success(
    events: list[tuple[str, bytes]], begin: str, chunking: bool
) -> None:
    relay = in_body(chunking=chunking) if begin == "in the body" else make(chunking=chunking)
    if begin == "at DATA or BDAT":
        before_data(relay)
    sent = heard = b""
    said_after_the_end = b""  # by the smarthost, after the whole message had left
    bodies_opened = begin == "in the body"
    for source, octets in events:
        whole = has_last_chunk(sent) if b"BDAT" in sent else bodies_opened and sent.endswith(b"\r\n.\r\n")
        ended = whole and not relay.for_smarthost
        if source == "smarthost" and relay.lost is None and not relay.done:
            if ended:
                said_after_the_end += octets
            relay.receive_from_smarthost(octets)
        elif source == "client":
            relay.receive_from_client(octets)
        elif source == "client closes":
            relay.client_closed()
        elif source == "smarthost closes":
            relay.lose("it closed")
        elif source == "all sent" and relay.lost is None:
            sent += take(relay.for_smarthost)
        heard += take(relay.for_client)
        bodies_opened = bodies_opened or relay.phase in (Phase.MESSAGE, Phase.FINAL)
        assert relay.lost is None or not relay.for_smarthost
    if relay.outcome is not None and relay.outcome.reply.positive:
        assert sent.endswith(b"\r\n.\r\n") or has_last_chunk(sent)
        reader = ReplyReader()
        reader.receive(said_after_the_end)
        verdict = reader.next_reply()
        assert verdict is not None
        assert verdict.positive
        assert verdict == relay.outcome.verdict
    # No more replies than commands: nothing is answered twice.
    lines = sum(octets.count(b"\n") for source, octets in events if source == "client")
    assert len(last_lines(heard)) <= 1 + lines + heard.count(b"354")
