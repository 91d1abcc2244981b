"""What must be true of a mail's two dialogues, whatever was said in them. It knows nothing of how the relay works.

Enough to judge is what each side said, what it heard, and when the smarthost spoke. Each dialogue is cut into exchanges
as its own two ends see it: a line, the reply to it, and where that is 354 the message and its verdict. Then:

1. Each reply is one, whole and well-formed, and belongs to a line: none too many, and at most one a line.
2. What the smarthost heard are the client's lines, each once and in their order, and none that the client did not say.
3. To such a line the client heard the smarthost's own reply to it (a good one only if the smarthost had heard the
   line), or that the smarthost is lost (4yz, 5yz). To every other line it heard a refusal.
4. What the smarthost heard of a message are the first octets of the client's, behind the trace, and hold no bare CR,
   bare LF or NUL. It is complete only if the client's is. Chunks are one message, and count as if they had come behind
   DATA: whether they go on as chunks or behind DATA makes no difference.
5. The client heard 2yz after its message only if the smarthost said so to that message, after it had heard all of it.
6. Octets that were not acted on are still there, and no others.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

_REPLY_LINE = re.compile(rb"([2-5][0-9][0-9])(?:([ -])([^\r\n\0]*))?\r\n")
_ENHANCED = re.compile(rb"^[245]\.[0-9]{1,3}\.[0-9]{1,3}(?: |$)")
_END = b"\r\n.\r\n"
_CHUNK = re.compile(rb"BDAT +([0-9]+)( +LAST)? *\r\n", re.IGNORECASE)
_DSN = re.compile(rb" (NOTIFY|ORCPT)=[^ \r\n]+", re.IGNORECASE)  # dropped where the smarthost does not offer it
_BEGINS_ANEW = re.compile(rb"MAIL|RSET|EHLO|HELO", re.IGNORECASE)
_LONGEST_LINE = 12288 + 2


class Violation(AssertionError):
    """A promise was broken. The text says which one, and by what."""


def require(condition: object, promise: str, *evidence: object) -> None:
    if not condition:
        raise Violation(": ".join([promise, *map(repr, evidence)]))


@dataclass(frozen=True)
class Answer:
    """A reply. `text` is that of its last line; `end` is where the reply ends in all that this side said."""

    code: int
    text: bytes
    end: int

    @property
    def positive(self) -> bool:
        return 200 <= self.code < 300

    def repeats(self, other: "Answer") -> bool:
        """What the client heard is what the smarthost said, but for an enhanced status code, and cut if too long."""
        words = _ENHANCED.sub(b"", self.text)[:400]
        return self.code == other.code and words in (other.text[:400], _ENHANCED.sub(b"", other.text)[:400])


@dataclass(frozen=True)
class Exchange:
    """`end` is where the line ends in all that was said. `message` is None but for DATA and 354, else what was said of
    it: with the final dot where `complete`. `chunk` is None but for BDAT, else likewise. `close` is where it all ends.
    """

    line: bytes
    end: int
    answer: Answer | None
    message: bytes | None = None
    complete: bool = False
    verdict: Answer | None = None
    chunk: bytes | None = None
    close: int = 0

    @property
    def last(self) -> bool:
        return self.chunk is not None and self.line.upper().split()[-1:] == [b"LAST"]


def answers(said: bytes) -> Iterator[Answer]:
    """The whole replies at the start of `said`, up to the first octets that are none."""
    position, code = 0, b""
    while match := _REPLY_LINE.match(said, position):
        if code and match[1] != code:
            return
        position = match.end()
        if match[2] == b"-":
            code = match[1]
        else:
            yield Answer(int(match[1]), match[3] or b"", position)
            code = b""


def exchanges(said: bytes, heard: list[Answer]) -> tuple[list[Exchange], bytes]:
    """What a client said, paired with what it heard; and the octets after the last line that has an answer."""
    found: list[Exchange] = []
    replies = iter(heard)
    position = 0
    no_command = False
    for answer in replies:
        end = said.find(b"\n", position)
        require(end >= 0, "a reply too many", answer, said[position:])
        line = said[position : end + 1]
        size = None if no_command else _size(line)
        # What follows a bare LF is the rest of a line, and what follows 334 is a response.
        no_command = not line.endswith(b"\r\n") or answer.code == 334
        position = end + 1
        if size is not None:
            chunk = said[position : position + size]
            close = position + len(chunk)
            found.append(Exchange(line, position, answer, complete=len(chunk) == size, chunk=chunk, close=close))
            position = close
            continue
        if not _opens_message(line, answer):
            found.append(Exchange(line, position, answer, close=position))
            continue
        line_end = position
        # The first line stands behind a line end too.
        end = said.find(_END, position - 2) + len(_END)
        complete = end >= len(_END)
        message = said[position:end] if complete else said[position:]
        position += len(message)
        verdict = next(replies, None)
        found.append(Exchange(line, line_end, answer, message, complete, verdict, close=position))
    return found, said[position:]


def _size(line: bytes) -> int | None:
    """Of the chunk behind this line; None if there is none."""
    match = _CHUNK.fullmatch(line) if len(line) <= 512 else None
    return int(match[1]) if match else None


def in_chunk(rest: bytes) -> bool:
    """What has no reply yet begins with a chunk that is not complete."""
    pending = _CHUNK.match(rest)
    return pending is not None and len(rest) - pending.end() < int(pending[1])


def chunked(found: list[Exchange], rest: bytes) -> list[Exchange]:
    """The messages that came in chunks, as if they had come behind DATA. `rest` may hold the beginning of a chunk."""
    messages: list[Exchange] = []
    chunks: list[Exchange] = []
    pending = _CHUNK.match(rest)
    if pending and _size(pending[0]) is not None:
        chunk = rest[pending.end() :][: int(pending[1])]
        complete = len(chunk) == int(pending[1])
        after = max((each.close for each in found), default=0) + len(pending[0])
        found = [*found, Exchange(pending[0], after, None, complete=complete, chunk=chunk, close=after + len(chunk))]
    for exchange in found:
        if exchange.chunk is not None:
            chunks.append(exchange)
        anew = _BEGINS_ANEW.match(exchange.line) and exchange.answer is not None and exchange.answer.positive
        if chunks and (exchange.last or anew):
            messages.append(_joined(chunks))
            chunks = []
    return [*messages, _joined(chunks)] if chunks else messages


def messages(found: list[Exchange], rest: bytes) -> list[Exchange]:
    """All of them, in order, however they came."""
    return sorted(
        [each for each in found if each.message is not None] + chunked(found, rest), key=lambda each: each.close
    )


def _joined(chunks: list[Exchange]) -> Exchange:
    text = b"".join(each.chunk for each in chunks if each.chunk is not None)
    dotted = (b"\r\n" + text).replace(b"\r\n.", b"\r\n..")
    last = chunks[-1]
    complete = last.last and last.complete
    if complete:
        dotted += b".\r\n" if dotted.endswith(b"\r\n") else b"\r\n.\r\n"
    verdict = last.answer if last.last else None
    return Exchange(last.line, last.end, last.answer, dotted[2:], complete, verdict, close=last.close)


def _opens_message(line: bytes, answer: Answer) -> bool:
    """A 354 to anything but DATA is nonsense, and nobody may act on it."""
    return answer.code == 354 and line.upper().split() == [b"DATA"]


@dataclass(frozen=True)
class Record:
    """One mail, as the ends saw it. The mail begins with the answer to MAIL, which the relay itself says upstream.

    `said_when` tells of each piece that the smarthost said how much it had heard by then, as (octets said, heard).
    """

    trace: bytes
    client_said: bytes
    client_heard: bytes
    smarthost_said: bytes
    smarthost_heard: bytes
    said_when: list[tuple[int, int]]
    left_over: bytes  # octets that went back to the session

    def heard_at(self, answer: Answer) -> int:
        """How much the smarthost had heard when it said this."""
        return next(heard for said, heard in self.said_when if said >= answer.end)


def check(record: Record) -> None:
    """Raises Violation if the record breaks a promise."""
    heard = list(answers(record.client_heard))
    whole = heard[-1].end if heard else 0
    require(whole == len(record.client_heard), "1: what the client heard is no reply", record.client_heard[whole:])
    longest = max(map(len, record.client_heard.split(b"\n")))
    require(longest < 512, "1: a reply line must not be longer than 512 octets", longest)
    if not heard:
        require(not record.client_said or record.left_over == record.client_said, "6: octets are gone")
        return

    mine, rest = exchanges(b"MAIL\r\n" + record.client_said, heard)
    theirs, unanswered = exchanges(record.smarthost_heard, in_step(record.smarthost_heard, record.smarthost_said))
    require(theirs or unanswered, "2: the smarthost heard nothing")
    _check_pairs(record, mine, rest, theirs, unanswered)
    _check_chunks(record, mine, rest, theirs, unanswered)
    if not in_chunk(rest) and not any(exchange.message is not None and not exchange.complete for exchange in mine):
        require(_same_octets(rest, record.left_over), "6: other octets are left than were said", rest, record.left_over)


def in_step(heard: bytes, said: bytes) -> list[Answer]:
    """A smarthost's replies that have a line to belong to: with one more, it is out of step."""
    found: list[Answer] = []
    replies = answers(said)
    position = 0
    for answer in replies:
        end = heard.find(b"\n", position)
        if end < 0:
            break
        line = heard[position : end + 1]
        position = end + 1
        found.append(answer)
        if (size := _size(line)) is not None:
            position = min(position + size, len(heard))
        if _opens_message(line, answer):
            # Whatever it says next is about the message.
            end = heard.find(_END, position - 2)
            position = end + len(_END) if end >= 0 else len(heard)
            found += islice(replies, 1)
    return found


def _check_pairs(record: Record, mine: list[Exchange], rest: bytes, theirs: list[Exchange], unanswered: bytes) -> None:
    """The client's exchanges against the smarthost's, of which the first is MAIL on both sides."""
    passed_on = [exchange.line for exchange in theirs] + _lines(unanswered)
    next_one = 0
    faulty = in_chunks = False
    for exchange in mine:
        assert exchange.answer is not None
        is_mail = exchange is mine[0]
        # A bare LF ends a line that must not be acted on, and what follows it up to CR LF must not either.
        faulty, after_fault = not exchange.line.endswith(b"\r\n"), faulty
        may_pass = not faulty and not after_fault and next_one < len(passed_on)
        upstream = theirs[next_one] if next_one < len(theirs) else None
        if may_pass and (
            is_mail
            or _same_command(exchange.line, passed_on[next_one])
            or _same_command(_without_dsn(exchange, upstream), passed_on[next_one])
        ):
            next_one += 1
            _check_pair(record, exchange, upstream)
        elif exchange.chunk is not None or (in_chunks and exchange.line.upper().startswith(b"NOOP")):
            pass  # the others by _check_chunks
        else:
            require(exchange.answer.code >= 400, "3: nobody but the smarthost can have agreed", exchange)
        in_chunks = in_chunks or exchange.chunk is not None
    unsaid = passed_on[next_one:]
    said = [exchange.line for exchange in mine] + [_DSN.sub(b"", line + b"\n") for line in rest.split(b"\n")]
    # Commands whose replies were still awaited when the client left.
    require(
        all(any(_same_command(line, other) for line in said) for other in unsaid),
        "2: the smarthost heard what the client did not say",
        unsaid,
    )


def _lines(unanswered: bytes) -> list[bytes]:
    """Without the octets of a chunk, which comes last: its command waits for all replies."""
    lines = unanswered.splitlines(keepends=True)
    number = next((number for number, line in enumerate(lines, 1) if _size(line) is not None), None)
    return lines[:number]


def _check_pair(record: Record, mine: Exchange, theirs: Exchange | None) -> None:
    assert mine.answer is not None
    if mine.chunk is not None and theirs is not None and theirs.chunk is None:
        return  # BDAT that became DATA, see _check_chunks
    if theirs is None or theirs.answer is None or not mine.answer.repeats(theirs.answer):
        require(mine.answer.code >= 400, "3: the reply to another command, or to none", mine, theirs)
        return
    if theirs.answer.code < 400:
        heard = record.heard_at(theirs.answer)
        end = theirs.close if theirs.chunk is not None else theirs.end
        require(heard >= end, "3: it agreed before it had heard the command", theirs)
        require(theirs.chunk is None or theirs.complete, "3: it agreed to half a chunk", theirs)
    require(mine.answer.code // 100 != 3 or mine.message is not None, "3: not a reply to this command", mine)
    if mine.message is not None and theirs.message is not None:
        _check_message(record, mine, theirs)


def _check_chunks(record: Record, mine: list[Exchange], rest: bytes, theirs: list[Exchange], unanswered: bytes) -> None:
    """The one message in chunks that a mail may have. Chunks that are refused make more of them."""
    for exchange in mine:
        require(exchange.chunk is None or exchange.complete, "1: a reply before the end of the chunk", exchange)
    said = chunked(mine, rest)
    heard = chunked(theirs, unanswered) or [exchange for exchange in theirs if exchange.message is not None]
    if not said or any(exchange.message is not None for exchange in mine):
        return
    if heard:
        _check_message(record, said[0], heard[0])
        said = said[1:]
    agreed = [each for each in said if each.verdict is not None and each.verdict.positive]
    require(not agreed, "5: a message in chunks that the smarthost did not hear", agreed)
    if not heard:
        positive = [each for each in mine if each.chunk is not None and each.answer and each.answer.positive]
        require(not positive, "3: nobody but the smarthost can have agreed", positive)


def _check_message(record: Record, mine: Exchange, theirs: Exchange) -> None:
    assert mine.message is not None
    assert theirs.message is not None
    whole = record.trace + mine.message
    require(mine.complete or not theirs.complete, "4: a message was completed that the client did not complete")
    require(whole.startswith(theirs.message), "4: the message was changed", mine.message, theirs.message)
    # In the next chunk an LF may follow.
    ahead = b"\n" if theirs.line.startswith(b"BDAT") and not theirs.complete and theirs.message.endswith(b"\r") else b""
    require(not re.search(rb"(?<!\r)\n|\r(?!\n)|\0", theirs.message + ahead), "4: a bare CR, LF or NUL", theirs.message)
    if theirs.complete:
        require(theirs.message == whole, "4: the message ends early", mine.message, theirs.message)
    if mine.verdict is not None and mine.verdict.positive:
        require(
            theirs.verdict is not None and mine.verdict.repeats(theirs.verdict),
            "5: the smarthost did not say so",
            mine.verdict,
            theirs.verdict,
        )
        assert theirs.verdict is not None
        require(theirs.complete, "5: it agreed to half a message", theirs)
        require(record.heard_at(theirs.verdict) >= theirs.close, "5: it agreed before it had heard the message", theirs)


def _same_command(mine: bytes, theirs: bytes) -> bool:
    """RCPT is put together anew; all else goes on as it came."""
    if mine == theirs:
        return True
    if (size := _size(mine)) is not None:
        # The first chunk is longer by the trace, or becomes DATA.
        match = _CHUNK.fullmatch(theirs)
        is_last = mine.upper().split()[-1] == b"LAST"
        same = match is not None and int(match[1]) >= size and bool(match[2]) == is_last
        return same or theirs == b"DATA\r\n"
    return _plain(mine) == _plain(theirs) and bool(re.match(rb"RCPT|DATA", theirs))


def _without_dsn(exchange: Exchange, upstream: Exchange | None) -> bytes:
    """The line as a smarthost without DSN gets it, unless it was we who refused it for what it says of DSN."""
    assert exchange.answer is not None
    refused = exchange.answer.code in (500, 501, 553, 555)
    if refused and not (upstream and upstream.answer and exchange.answer.repeats(upstream.answer)):
        return exchange.line
    return _DSN.sub(b"", exchange.line)


def _plain(line: bytes) -> bytes:
    """Without what a command may be written in two ways in: case, blanks, a source route."""
    # A blank at the start makes it no command.
    return re.sub(rb"<@[^:>]*:", b"<", line[:1] + line[1:].replace(b" ", b"")).upper()


def _same_octets(expected: bytes, left_over: bytes) -> bool:
    """Of a line that is too long already, the beginning need not be kept."""
    if expected == left_over:
        return True
    last_line = expected.rpartition(b"\n")[2]
    return len(last_line) > _LONGEST_LINE and expected.endswith(left_over)
