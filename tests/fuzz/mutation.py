"""Turns an input that makes sense into one that makes less: what a broken or hostile program might say.

All chance comes from one `random.Random`, so that a seed repeats a run.
"""

from collections.abc import Sequence
from dataclasses import replace
from random import Random

from fuzz.conversation import CLIENT, HAPPENINGS, HAPPENS, SMARTHOST, Conversation, Event

# What has broken mail programs before: line ends of all kinds, ends of data, limits, words in the wrong place.
TOKENS = (
    *(b"\r\n", b"\r", b"\n", b"\0", b".", b"\r\n.\r\n", b"\n.\n", b"\r\n.\n", b"\r.\r", b"\r\n.", b"\r\n..\r\n"),
    *(b"\xff", b" ", b"-", b":", b"<", b">", b"@", b"=", b"%", b'"', b"\\", b"#", b"\xc3\xa4", b"\t", b"\x85"),
)
OF_CLIENTS = (
    *(b"MAIL FROM:<alice@moon.test>\r\n", b"RCPT TO:<bob@sun.test>\r\n", b"DATA\r\n", b"RSET\r\n", b"QUIT\r\n"),
    *(b"EHLO x\r\n", b"NOOP\r\n", b"STARTTLS\r\n", b"AUTH PLAIN\r\n", b"XCLIENT NAME=x\r\n", b"BDAT 5 LAST\r\nHello"),
    *(b"BDAT 0 LAST\r\n", b"BDAT 7\r\n.a\r\n.\r\n", b"BDAT 2\r\n\r\n", b"BDAT 1\r\n\r", b"BDAT 9999999999\r\n"),
    *(b"HELP\r\n", b"From: x\r\n\r\nText\r\n.\r\n", b".\r\n", b"A" * 513 + b"\r\n", b"B" * 12291 + b"\r\n"),
)
OF_SMARTHOSTS = (
    *(b"250 Ok\r\n", b"250-Ok\r\n", b"354 Go on\r\n", b"421 Bye\r\n", b"550 5.1.1 No\r\n", b"451 Later\r\n"),
    *(b"220 Hi\r\n", b"334 \r\n", b"235 In\r\n", b"552 Too big\r\n", b"999 ?\r\n", b"25", b"250", b"250\r\n"),
    *(b"503 \r\n", b"250 " + b"L" * 4090 + b"\r\n", b"250 " + b"L" * 4091 + b"\r\n", b"250-x\r\n" * 127),
    b"HTTP/1.1 200 OK\r\n",
)
_OF = {CLIENT: OF_CLIENTS, SMARTHOST: OF_SMARTHOSTS}
_OFFERS = ((), ("PIPELINING",), ("CHUNKING",), ("PIPELINING", "CHUNKING"), ("PIPELINING", "SMTPUTF8", "DSN"))
_MAX_EVENTS = 80
_MAX_OCTETS = 100_000


def mutate_octets(
    random: Random, octets: bytes, corpus: Sequence[bytes] = (), tokens: Sequence[bytes] = TOKENS
) -> bytes:
    """One change. `corpus` are other inputs to take pieces from, `tokens` what to put in."""
    start = random.randint(0, len(octets))
    end = min(len(octets), start + random.choice((1, 1, 2, 4, 16, 64)))
    before, piece, after = octets[:start], octets[start:end], octets[end:]
    match random.randrange(8):
        case 0:
            return before + after
        case 1:
            return before + piece * random.choice((2, 2, 3, 40)) + after
        case 2:
            return before + bytes(random.randrange(256) for _ in piece) + after
        case 3:
            return before + bytes(octet ^ 1 << random.randrange(8) for octet in piece) + after
        case 4 | 5:
            return before + random.choice(tokens) + random.choice((piece, b"")) + after
        case 6 if corpus:
            other = random.choice(corpus)
            place = random.randint(0, len(other))
            return before + other[place : place + random.choice((4, 40, 400))] + after
        case _:
            return before + piece.swapcase() + after


def mutate_file(random: Random, corpus: Sequence[bytes], tokens: Sequence[bytes] = TOKENS) -> bytes:
    """An input made of one of `corpus` with some changes."""
    octets = random.choice(corpus)
    for _ in range(random.choice((1, 1, 2, 3, 6, 12))):
        octets = mutate_octets(random, octets, corpus, tokens)
    return octets[:_MAX_OCTETS]


def mutate_conversation(random: Random, corpus: Sequence[Conversation]) -> Conversation:
    """A conversation made of one of `corpus` with some changes to what is said, and when."""
    conversation = random.choice(corpus)
    events = list(conversation.events)
    for _ in range(random.choice((1, 2, 3, 5, 8))):
        _change(random, events, corpus)
    offers = conversation.offers
    if random.randrange(6) == 0:
        offers = random.choice(_OFFERS)
    return replace(conversation, events=tuple(events[:_MAX_EVENTS]), offers=offers)


def _change(random: Random, events: list[Event], corpus: Sequence[Conversation]) -> None:
    place = random.randint(0, len(events))
    event = events[place] if place < len(events) else None
    match random.randrange(11):
        case 0 if event:
            del events[place]
        case 1 if event:
            events.insert(place, event)
        case 2 if event:  # at another time
            events.insert(random.randint(0, len(events) - 1), events.pop(place))
        case 3 if event and event.kind != HAPPENS:  # in two pieces
            cut = random.randint(0, len(event.octets))
            pieces = (event.octets[:cut], event.octets[cut:])
            events[place : place + 1] = [Event(event.kind, octets) for octets in pieces]
        case 4 if event and place + 1 < len(events) and events[place + 1].kind == event.kind != HAPPENS:  # in one
            events[place : place + 2] = [Event(event.kind, event.octets + events[place + 1].octets)]
        case 5:
            events.insert(place, Event(HAPPENS, random.choice(HAPPENINGS)))
        case 6 | 7:
            kind = random.choice((CLIENT, SMARTHOST))
            events.insert(place, Event(kind, random.choice(_OF[kind])))
        case 8:  # the rest of another one
            other = random.choice(corpus).events
            events[place:] = other[random.randint(0, len(other)) :]
        case _ if event and event.kind != HAPPENS:
            octets = mutate_octets(random, event.octets, (), (*TOKENS, *_OF[event.kind]))
            events[place] = Event(event.kind, octets)
        case _:
            events.append(Event(CLIENT, random.choice(OF_CLIENTS)))
