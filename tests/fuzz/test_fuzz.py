"""A few seconds of what `make fuzz` does for minutes, and all inputs that once broke something.

The inputs here are the same each time: a test run must not fail by luck. Luck is for `make fuzz`.
"""

from collections.abc import Iterator

import pytest
from fuzz import live, parsers, targets
from fuzz.conversation import Conversation, read, seeds
from fuzz.live import Server
from fuzz.oracle import Record, Violation, check
from fuzz.targets import DIALOGUES, FILES, PURE, TIMES, Target

SEED = "sendooway"
NUMBERS = {**dict.fromkeys(DIALOGUES, 1000), **dict.fromkeys(FILES, 500), **dict.fromkeys(TIMES, 8)}


@pytest.mark.parametrize(
    "target",
    [*DIALOGUES, *FILES, *(pytest.param(target, marks=pytest.mark.slow) for target in TIMES)],
    ids=lambda target: target.name,
)
def test_no_promise_is_broken(target: Target) -> None:
    for number in range(NUMBERS[target]):
        octets = targets.input_of(target, SEED, number)
        try:
            target.run(octets)
        except Exception as error:
            error.add_note(f"by input {number} of {target.name} with the seed {SEED}: {octets[:2000]!r}")
            raise


@pytest.mark.parametrize(
    ("target", "path"),
    [(target, path) for target in PURE for path in target.kept()],
    ids=lambda value: value.name,
)
def test_what_once_broke_something_does_so_no_more(target: Target, path: object) -> None:
    target.run(path.read_bytes())  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", parsers.PARSERS)
def test_inputs_that_make_sense_are_the_beginning(name: str) -> None:
    for octets in parsers.seeds(name):
        parsers.PARSERS[name](octets)


@pytest.mark.parametrize("folder", ["relay", "server"])
def test_a_conversation_can_be_kept_as_a_file(folder: str) -> None:
    for conversation in seeds(folder):
        assert read(conversation.format()) == conversation


def test_an_input_depends_on_seed_and_number_alone() -> None:
    for target in PURE:
        assert targets.input_of(target, "a", 3) == targets.input_of(target, "a", 3)
        assert any(targets.input_of(target, "a", 3) != targets.input_of(target, "b", number) for number in range(9))


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with live.server() as server:
        yield server


@pytest.mark.slow
def test_the_running_server_breaks_no_promise(server: Server) -> None:
    for conversation in seeds("relay")[::4]:
        server.run(conversation)
    for target in server.targets:
        for path in target.kept():
            target.run(path.read_bytes())
        for number in range(40):
            octets = targets.input_of(target, SEED, number)
            try:
                target.run(octets)
            except Exception as error:
                error.add_note(f"by input {number} of {target.name} with the seed {SEED}: {octets.decode()}")
                raise


# The oracle itself: it has to see what it is there for.

TRACE = b"Received: by x\r\n"
CLIENT = b"RCPT TO:<b@sun.test>\r\nDATA\r\nHello\r\n.\r\nQUIT\r\n"
HEARD = b"250 2.1.0 A\r\n250 2.1.5 B\r\n354 C\r\n250 2.0.0 D\r\n"
SAID = b"250 2.1.0 A\r\n250 2.1.5 B\r\n354 C\r\n250 2.0.0 D\r\n"
PASSED = b"MAIL FROM:<a@moon.test>\r\nRCPT TO:<b@sun.test>\r\nDATA\r\nReceived: by x\r\nHello\r\n.\r\n"


def record(
    client_said: bytes = CLIENT,
    client_heard: bytes = HEARD,
    smarthost_said: bytes = SAID,
    smarthost_heard: bytes = PASSED,
    heard_before: int = len(PASSED),
    left_over: bytes = b"QUIT\r\n",
) -> Record:
    when = [(len(smarthost_said), heard_before)]
    return Record(TRACE, client_said, client_heard, smarthost_said, smarthost_heard, when, left_over)


def test_a_mail_that_went_well_breaks_no_promise() -> None:
    check(record())


@pytest.mark.parametrize(
    ("promise", "broken"),
    [
        ("1: what the client heard is no reply", record(client_heard=HEARD + b"Traceback")),
        ("1: a reply line must not be longer", record(client_heard=HEARD[:-2] + b"x" * 600 + b"\r\n")),
        ("a reply too many", record(client_heard=HEARD + b"250 E\r\n" * 2)),
        ("3: nobody but the smarthost can have agreed", record(client_heard=HEARD + b"250 E\r\n", left_over=b"")),
        ("2: the smarthost heard what", record(smarthost_heard=PASSED + b"RSET\r\n")),
        ("3: the reply to another command", record(client_heard=HEARD.replace(b"B", b"A"))),
        ("3: it agreed before it had heard", record(heard_before=20)),
        ("4: the message was changed", record(smarthost_heard=PASSED.replace(b"Hello", b"hello"))),
        ("4: a bare CR, LF or NUL", record(CLIENT.replace(b"l", b"\n"), smarthost_heard=PASSED.replace(b"l", b"\n"))),
        ("4: a message was completed", record(CLIENT[:-9], HEARD[:33], left_over=b"")),
        ("5: the smarthost did not say so", record(smarthost_said=SAID.replace(b"250 2.0.0", b"550 5.0.0"))),
        ("5: the smarthost did not say so", record(smarthost_said=SAID[:33])),
        ("5: it agreed to half a message", record(smarthost_heard=PASSED[:-3])),
        ("5: it agreed before it had heard", record(heard_before=len(PASSED) - 1)),
        ("6: other octets are left", record(left_over=b"")),
        ("6: other octets are left", record(left_over=b"\nQUIT\r\n")),
    ],
)
def test_the_oracle_sees_a_broken_promise(promise: str, broken: Record) -> None:
    with pytest.raises(Violation) as violation:
        check(broken)
    assert str(violation.value).startswith(promise)


IN_CHUNKS = b"RCPT TO:<b@sun.test>\r\nBDAT 3\r\n.\r\nBDAT 5 LAST\r\nHelloQUIT\r\n"
ANSWERS = b"250 2.1.0 A\r\n250 2.1.5 B\r\n250 2.0.0 C\r\n250 2.0.0 D\r\n"
PASSED_AS_CHUNKS = (
    b"MAIL FROM:<a@moon.test>\r\nRCPT TO:<b@sun.test>\r\nBDAT 19\r\nReceived: by x\r\n.\r\nBDAT 5 LAST\r\nHello"
)
PASSED_BEHIND_DATA = PASSED.replace(b"x\r\nHello", b"x\r\n..\r\nHello")


def chunked(
    client_said: bytes = IN_CHUNKS,
    client_heard: bytes = ANSWERS,
    smarthost_said: bytes = ANSWERS,
    smarthost_heard: bytes = PASSED_AS_CHUNKS,
    heard_before: int = len(PASSED_AS_CHUNKS),
) -> Record:
    return record(client_said, client_heard, smarthost_said, smarthost_heard, heard_before)


def behind_data(
    client_heard: bytes = ANSWERS,
    smarthost_said: bytes = ANSWERS.replace(b"250 2.0.0 C", b"354 C"),
    smarthost_heard: bytes = PASSED_BEHIND_DATA,
    heard_before: int = len(PASSED_BEHIND_DATA),
) -> Record:
    return record(IN_CHUNKS, client_heard, smarthost_said, smarthost_heard, heard_before)


@pytest.mark.parametrize("well", [chunked(), behind_data()], ids=["as chunks", "behind DATA"])
def test_a_message_in_chunks_that_went_well_breaks_no_promise(well: Record) -> None:
    check(well)


@pytest.mark.parametrize(
    ("promise", "broken"),
    [
        ("3: it agreed before it had heard", chunked(heard_before=len(PASSED_AS_CHUNKS) - 1)),
        ("4: the message was changed", chunked(smarthost_heard=PASSED_AS_CHUNKS.replace(b"Hello", b"hello"))),
        ("2: the smarthost heard what", behind_data(smarthost_heard=PASSED_BEHIND_DATA.replace(b"..", b"."))),
        ("2: the smarthost heard what", chunked(IN_CHUNKS.replace(b"5 LAST", b"5"), smarthost_heard=PASSED_AS_CHUNKS)),
        ("3: the reply to another command", chunked(smarthost_said=ANSWERS.replace(b"250 2.0.0 D", b"550 5.0.0 D"))),
        ("5: the smarthost did not say so", behind_data(smarthost_said=ANSWERS[:26] + b"354 C\r\n550 5.0.0 D\r\n")),
        ("5: it agreed to half a message", behind_data(smarthost_heard=PASSED_BEHIND_DATA[:-3])),
        ("5: it agreed before it had heard", behind_data(heard_before=len(PASSED_BEHIND_DATA) - 1)),
        ("5: a message in chunks that", chunked(smarthost_heard=PASSED_AS_CHUNKS[:47], smarthost_said=ANSWERS[:26])),
    ],
)
def test_the_oracle_sees_a_broken_promise_in_chunks(promise: str, broken: Record) -> None:
    with pytest.raises(Violation) as violation:
        check(broken)
    assert str(violation.value).startswith(promise)


def test_a_conversation_without_offers_offers_nothing() -> None:
    assert read(b"-- offers\n") == Conversation((), offers=())
