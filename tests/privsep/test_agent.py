"""The agent, a real process, asked by sessions and by whoever has taken over the proxy."""

import os
import select
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from privsep.running import ME, QUICK, RunningAgent, StartAgent
from servers.processes import PATIENCE, wait_until
from servers.users import User

from sendooway.auth.identity import Verdict
from sendooway.privsep import channel, client, command, messages, sessions, user
from sendooway.privsep.agent import ALLOWED, Pace, State
from sendooway.privsep.channel import Channel, ChannelClosed
from sendooway.privsep.client import AgentError
from sendooway.privsep.messages import (
    AccountFound,
    AccountMissing,
    AgentWanted,
    CheckEnded,
    CheckGranted,
    CheckPassed,
    CheckWanted,
    LoginBegin,
    LoginCancel,
    LoginChallenge,
    LoginContinue,
    LoginDone,
    LoginGiven,
    LoginRefused,
    LookUp,
    LookUpFailed,
    Message,
    ProxyReady,
    SaslBegin,
    SaslContinue,
    SaslResponse,
    SaslUnavailable,
    SessionGiven,
    SessionOver,
    SessionVerdict,
)
from sendooway.secret import Secret

CONFIGURATION = """\
authBackend = none
localname = proxy.test
smarthostMapping = direct:alice@moon.test mx.moon.test 587 alice s3cret tls
smarthostMapping = direct:alice@sun.test mx.sun.test 465 bob t0psecret ssl,noCertCheck
smarthostMapping = direct:alice@earth.test localhost 25 - - noAuth
"""


def plain(name: str = ME, said: str = "any", authzid: str = "") -> bytes:
    return f"{authzid}\0{name}\0{said}".encode()


def log_in(agent: RunningAgent) -> LoginDone:
    answer = agent.stub.begin_login("PLAIN", plain())
    assert isinstance(answer, LoginDone), answer
    return answer


def found(agent: RunningAgent, reverse_path: str) -> AccountFound:
    answer = agent.stub.look_up(reverse_path)
    assert isinstance(answer, AccountFound), answer
    return answer


# Login


def test_plain_with_an_initial_response_logs_in(start_agent: StartAgent) -> None:
    assert log_in(start_agent(CONFIGURATION)) == LoginDone(ME, "proxy.test", False, True, None, False)


def test_plain_without_an_initial_response_is_challenged_with_nothing(start_agent: StartAgent) -> None:
    agent = start_agent()
    assert agent.stub.begin_login("PLAIN", None) == LoginChallenge(b"")
    assert isinstance(agent.stub.continue_login(plain()), LoginDone)


@pytest.mark.parametrize("initial", [False, True])
def test_login_asks_for_name_and_password(start_agent: StartAgent, initial: bool) -> None:
    agent = start_agent()
    if initial:
        answer = agent.stub.begin_login("LOGIN", ME.encode())
    else:
        assert agent.stub.begin_login("LOGIN", None) == LoginChallenge(b"Username:")
        answer = agent.stub.continue_login(ME.encode())
    assert answer == LoginChallenge(b"Password:")
    assert isinstance(agent.stub.continue_login(b"any"), LoginDone)


def test_a_cancelled_login_can_be_begun_again_and_is_no_failure(start_agent: StartAgent, log_file: Path) -> None:
    agent = start_agent("authBackend = none\nmaxFailedLogins = 1\n")
    for _ in range(3):
        agent.stub.begin_login("LOGIN", None)
        agent.stub.cancel_login()
    log_in(agent)
    assert "auth-failure" not in log_file.read_text()


@pytest.mark.parametrize(
    ("message", "verdict"),
    [
        (plain("no-such-user"), Verdict.REFUSED),
        (plain(authzid="somebody"), Verdict.REFUSED),
        (plain(ME + "\n"), Verdict.REFUSED),
        (b"", Verdict.MALFORMED),
        (b"a\0b", Verdict.MALFORMED),
        (b"\0\xff\0x", Verdict.MALFORMED),
    ],
)
def test_each_failure_is_one_line_of_the_log(
    start_agent: StartAgent, log_file: Path, message: bytes, verdict: Verdict
) -> None:
    agent = start_agent()
    assert agent.stub.begin_login("PLAIN", message) == LoginRefused(verdict.value, False)
    (line,) = (line for line in log_file.read_text().splitlines() if "no-gssapi" not in line)
    assert " auth-failure rip=192.0.2.7 mech=PLAIN user=" in line
    assert " reason=" in line
    assert "session=s1" in line


def test_an_unpermitted_user_is_refused_like_an_unknown_one(start_agent: StartAgent) -> None:
    agent = start_agent("authBackend = none\nvalidUser = somebody\n")
    assert agent.stub.begin_login("PLAIN", plain()) == LoginRefused("refused", False)
    assert agent.stub.begin_login("PLAIN", plain("unknown")) == LoginRefused("refused", False)


def test_after_five_failures_it_is_over(start_agent: StartAgent, log_file: Path) -> None:
    agent = start_agent()
    finals = []
    for message in (plain("x"), b"", plain("y"), plain("z"), plain("x")):
        answer = agent.stub.begin_login("PLAIN", message)
        assert isinstance(answer, LoginRefused)
        finals.append(answer.final)
    assert finals == [False, False, False, False, True]
    assert agent.end() == 0
    with pytest.raises(AgentError):
        agent.stub.begin_login("PLAIN", plain())
    assert log_file.read_text().count("auth-failure") == 5


@pytest.mark.slow
def test_a_refusal_is_delayed_from_when_the_password_is_there(start_agent: StartAgent, log_file: Path) -> None:
    agent = start_agent(pace=Pace(delay=2, jitter=0))
    agent.stub.begin_login("LOGIN", None)
    agent.stub.continue_login(b"x")
    begin = time.monotonic()
    agent.channel.send(LoginContinue(Secret(b"y")))
    agent.channel.receive(frozenset({LoginRefused}), PATIENCE)
    assert time.monotonic() - begin >= 2


def test_nothing_but_a_refusal_is_delayed_and_the_log_knows_of_that_at_once(
    start_agent: StartAgent, log_file: Path
) -> None:
    agent = start_agent(pace=Pace(delay=3600, jitter=0))
    assert agent.stub.begin_login("LOGIN", None) == LoginChallenge(b"Username:")
    assert agent.stub.continue_login(b"x") == LoginChallenge(b"Password:")
    agent.channel.send(LoginContinue(Secret(b"y")))
    wait_until(lambda: log_file.exists() and "auth-failure" in log_file.read_text(), "a line in the log")
    os.kill(agent.pid, signal.SIGKILL)


def test_the_time_of_a_refusal_is_not_one_of_a_few() -> None:
    # What comes on top of one of a few is plain to see.
    seconds = [Pace(delay=2, jitter=1).seconds() for _ in range(1000)]
    assert len(set(seconds)) > 990
    assert all(2 <= each <= 3 for each in seconds)


@pytest.mark.slow
def test_nobody_may_take_for_ever_to_log_in(start_agent: StartAgent, log_file: Path) -> None:
    agent = start_agent("authBackend = none\nloginTimeout = 1\n")
    assert agent.end() == 0
    assert "login-timeout rip=192.0.2.7" in log_file.read_text()


@pytest.mark.slow
def test_after_the_login_time_is_no_limit_any_more(start_agent: StartAgent) -> None:
    agent = start_agent("authBackend = none\nloginTimeout = 3\n")
    log_in(agent)
    assert select.select([agent.stub], [], [], 3.2) == ([], [], [])
    assert agent.stub.look_up("x@y.test")


def test_the_monitor_is_asked_before_each_check_and_told_how_it_ended(start_agent: StartAgent) -> None:
    agent = start_agent(monitored=True)
    monitor = agent.monitor
    assert monitor

    def hear() -> Message:
        return monitor.receive(frozenset({CheckWanted, CheckEnded, CheckPassed}), PATIENCE)

    agent.channel.send(LoginBegin("PLAIN", Secret(plain("x" * 300))))
    assert hear() == CheckWanted("x" * 256)
    assert select.select([agent.channel], [], [], 0.1) == ([], [], [])
    monitor.send(CheckGranted())
    assert hear() == CheckEnded(refused=True)
    assert agent.channel.receive(frozenset({LoginRefused}), PATIENCE) == LoginRefused("refused", False)
    agent.channel.send(LoginBegin("PLAIN", Secret(plain())))
    assert hear() == CheckWanted(ME)
    monitor.send(CheckGranted())
    message, beside = monitor.receive_descriptors(frozenset({CheckPassed}), 10)
    assert message == CheckPassed(ME, os.getuid(), os.getgid(), str(Path.home()), "PLAIN")
    monitor.send(SessionVerdict(True))
    assert isinstance(agent.channel.receive(frozenset({LoginDone}), PATIENCE), LoginDone)
    os.close(*beside)


def pass_check(monitor: Channel, verdict: SessionVerdict) -> None:
    """Play the monitor at a login that is right."""
    monitor.receive(frozenset({CheckWanted}), PATIENCE)
    monitor.send(CheckGranted())
    _, beside = monitor.receive_descriptors(frozenset({CheckPassed}), PATIENCE)
    for descriptor in beside:
        os.close(descriptor)
    monitor.send(verdict)


def test_an_agent_that_gives_its_session_away_checks_the_next_login(start_agent: StartAgent, log_file: Path) -> None:
    agent = start_agent(monitored=True)
    assert agent.monitor
    proxy = agent.channel
    for session in ("s2", "s3"):
        proxy.send(LoginBegin("PLAIN", Secret(plain())))
        pass_check(agent.monitor, SessionVerdict(granted=True, given=True))
        # Whoever has it now answers.
        with pytest.raises(ChannelClosed):
            proxy.receive(frozenset(), PATIENCE)
        proxy.close()
        proxy, theirs = channel.pair()
        agent.monitor.send(LoginGiven(session, "192.0.2.8"), (theirs.fileno(),))
        theirs.close()
    proxy.send(LoginBegin("PLAIN", Secret(plain("nobody-here"))))
    agent.monitor.receive(frozenset({CheckWanted}), PATIENCE)
    agent.monitor.send(CheckGranted())
    assert proxy.receive(frozenset({LoginRefused}), PATIENCE) == LoginRefused("refused", False)
    assert "auth-failure rip=192.0.2.8 mech=PLAIN user=nobody-here" in log_file.read_text()
    proxy.close()
    assert agent.end() == 0


def test_a_session_too_many_of_a_user_is_turned_away(start_agent: StartAgent, log_file: Path) -> None:
    agent = start_agent(monitored=True)
    assert agent.monitor
    agent.channel.send(LoginBegin("PLAIN", Secret(plain())))
    for heard, answer in ((CheckWanted, CheckGranted()), (CheckPassed, SessionVerdict(False))):
        _, beside = agent.monitor.receive_descriptors(frozenset({heard}), PATIENCE)
        for descriptor in beside:
            os.close(descriptor)
        agent.monitor.send(answer)
    assert agent.channel.receive(frozenset({LoginRefused}), PATIENCE) == LoginRefused("crowded", True)
    assert agent.end() == 0
    assert f"too-many-sessions rip=192.0.2.7 user={ME}" in log_file.read_text()
    assert "auth-failure" not in log_file.read_text()


@pytest.mark.slow
def test_a_login_that_is_not_granted_in_time_ends_the_agent(start_agent: StartAgent, log_file: Path) -> None:
    agent = start_agent("authBackend = none\nloginTimeout = 1\n", monitored=True)
    with pytest.raises(AgentError, match="ended"):
        agent.stub.begin_login("PLAIN", plain())
    assert agent.end() == 0
    assert "login-timeout" in log_file.read_text()


def test_an_agent_whose_monitor_is_gone_checks_nothing(start_agent: StartAgent) -> None:
    agent = start_agent(monitored=True)
    assert agent.monitor
    agent.monitor.close()
    with pytest.raises(AgentError, match="ended"):
        agent.stub.begin_login("PLAIN", plain())


def test_it_ends_with_its_session(start_agent: StartAgent) -> None:
    agent = start_agent()
    log_in(agent)
    agent.stub.close()
    assert agent.end() == 0


def test_no_secret_is_in_the_log(start_agent: StartAgent, log_file: Path) -> None:
    agent = start_agent(CONFIGURATION)
    agent.stub.begin_login("PLAIN", plain("x", "hush-hush"))
    agent.stub.begin_login("PLAIN", plain(ME, "hush-hush"))
    account = found(agent, "alice@moon.test")
    agent.stub.begin_sasl(account.number, ("PLAIN",), ())
    text = log_file.read_text()
    assert "hush" not in text
    assert "s3cret" not in text


# Questions out of order, as a proxy that was taken over may ask them. Each sequence ends in one that kills.

OTHERS: list[Message] = [
    LoginChallenge(b""),
    LoginDone("root", "", False, False, None, False),
    LoginRefused("refused", False),
    AccountMissing(()),
    LookUpFailed(""),
    SaslUnavailable(""),
    SaslResponse("PLAIN", None),
    AgentWanted("s2", ""),
    ProxyReady(),
    CheckWanted(ME),
    CheckGranted(),
    CheckEnded(False),
    CheckPassed(ME, 1, 1, "/", "PLAIN"),
    SessionVerdict(True),
    LoginGiven("s2", "192.0.2.8"),
    SessionGiven("s2", "192.0.2.8", "PLAIN"),
    SessionOver("s1"),
]
BEGIN = LoginBegin("PLAIN", None)
BEGIN_SASL = SaslBegin(0, ("CRAM-MD5",), ())
LOGGED_IN: list[Message] = [LoginBegin("PLAIN", Secret(plain()))]
LOOKED_UP = [*LOGGED_IN, LookUp("alice@moon.test")]


def stepping_out(before: Sequence[Message], *wrong: Message) -> list[Sequence[Message]]:
    return [[*before, message] for message in wrong]


OUT_OF_ORDER: list[Sequence[Message]] = [
    # Nobody has logged in.
    *stepping_out([], LoginContinue(Secret(plain())), LoginCancel(), LookUp("a@b"), BEGIN_SASL, SaslContinue(b"")),
    *stepping_out([], LoginBegin("GSSAPI", None), LoginBegin("plain", None), LoginBegin("", None), *OTHERS),
    # A challenge is open.
    *stepping_out([BEGIN], BEGIN, LookUp("a@b"), BEGIN_SASL, SaslContinue(b""), *OTHERS),
    # A login was refused, or cancelled.
    *stepping_out([LoginBegin("PLAIN", Secret(b""))], LookUp("a@b"), BEGIN_SASL, LoginCancel()),
    *stepping_out([BEGIN, LoginCancel()], LoginContinue(Secret(plain())), LookUp("a@b"), LoginCancel()),
    # Somebody has: no second login, no account that was not looked up, no dialogue that was not begun.
    *stepping_out(LOGGED_IN, *LOGGED_IN, BEGIN, LoginContinue(Secret(plain())), LoginCancel(), *OTHERS),
    *stepping_out(LOGGED_IN, BEGIN_SASL, SaslContinue(b"")),
    *stepping_out([*LOGGED_IN, LookUp("x@y.test")], BEGIN_SASL),
    *stepping_out(LOOKED_UP, *(SaslBegin(number, ("PLAIN",), ()) for number in (1, -1, 2**70))),
    *stepping_out(LOOKED_UP, SaslContinue(b""), *LOGGED_IN),
    # An account without login has no secret to ask for.
    *stepping_out([*LOGGED_IN, LookUp("alice@earth.test")], BEGIN_SASL),
    # A dialogue has begun, or has ended without success.
    *stepping_out([*LOOKED_UP, BEGIN_SASL], *LOGGED_IN, LoginCancel(), *OTHERS),
    *stepping_out([*LOOKED_UP, SaslBegin(0, ("GSSAPI",), ())], SaslContinue(b"")),
    *stepping_out([*LOOKED_UP, BEGIN_SASL, SaslContinue(b""), SaslContinue(b"")], SaslContinue(b"")),
]
ANY = frozenset(messages.MESSAGES)

# Mechanisms that are not offered, be it that the configuration forbids them or that there is no keytab.
NARROWED = f"{CONFIGURATION}authMechanisms = LOGIN\n"
BEGIN_LOGIN = LoginBegin("LOGIN", None)
NARROWED_OUT_OF_ORDER: list[Sequence[Message]] = [
    *stepping_out([], LoginBegin("PLAIN", None), LoginBegin("PLAIN", Secret(plain())), LoginBegin("GSSAPI", None)),
    *stepping_out([BEGIN_LOGIN, LoginCancel()], LoginBegin("PLAIN", None), LoginBegin("GSSAPI", Secret(b"token"))),
    *stepping_out([BEGIN_LOGIN, LoginContinue(Secret(ME.encode()))], LookUp("a@b"), BEGIN_LOGIN),
]
BEGIN_TICKET = LoginBegin("GSSAPI", None)
BAD_TICKET = LoginBegin("GSSAPI", Secret(b"no token"))
TICKETS_OUT_OF_ORDER: list[Sequence[Message]] = [
    *stepping_out([BEGIN_TICKET], BEGIN_TICKET, BEGIN, LookUp("a@b"), BEGIN_SASL, SaslContinue(b""), *OTHERS),
    *stepping_out([BEGIN_TICKET, LoginCancel()], LoginContinue(Secret(b"token")), LookUp("a@b"), LoginCancel()),
    # A token that proves nothing makes nobody a user.
    *stepping_out([BAD_TICKET], LoginContinue(Secret(b"token")), LookUp("a@b"), BEGIN_SASL, LoginCancel()),
    *stepping_out([BEGIN_TICKET, LoginContinue(Secret(b"no token"))], LoginContinue(Secret(b"")), LookUp("a@b")),
    *stepping_out([BAD_TICKET, *LOGGED_IN], BEGIN_TICKET, BAD_TICKET, LoginContinue(Secret(b"token")), BEGIN_SASL),
]


def name_of(sequence: Sequence[Message]) -> str:
    return "-".join(type(message).__name__ for message in sequence)


@pytest.mark.parametrize("sequence", OUT_OF_ORDER, ids=name_of)
def test_a_question_out_of_order_ends_the_agent(
    start_agent: StartAgent, log_file: Path, sequence: Sequence[Message]
) -> None:
    assert_ends(start_agent(CONFIGURATION), log_file, sequence)


@pytest.mark.parametrize("sequence", NARROWED_OUT_OF_ORDER, ids=name_of)
def test_a_mechanism_that_is_not_offered_ends_the_agent(
    start_agent: StartAgent, log_file: Path, sequence: Sequence[Message]
) -> None:
    assert_ends(start_agent(NARROWED), log_file, sequence)


@pytest.mark.parametrize("sequence", TICKETS_OUT_OF_ORDER, ids=name_of)
@pytest.mark.slow
def test_a_question_out_of_order_ends_an_agent_that_takes_tickets(
    start_agent: StartAgent, log_file: Path, keytab: Path, sequence: Sequence[Message]
) -> None:
    assert_ends(start_agent(f"{CONFIGURATION}krb5Keytab = {keytab}\nkrb5PamAccount = no\n"), log_file, sequence)


def assert_ends(agent: RunningAgent, log_file: Path, sequence: Sequence[Message]) -> None:
    """With the last question of the sequence, and not before it."""
    *before, wrong = sequence
    for message in before:
        agent.channel.send(message)
        if not isinstance(message, LoginCancel):
            agent.channel.receive(ANY, PATIENCE)
    agent.channel.send(wrong)
    with pytest.raises(ChannelClosed):
        agent.channel.receive(ANY, PATIENCE)
    assert agent.end() == 70
    lines = [line for line in log_file.read_text().splitlines() if "agent-ends rip=192.0.2.7 session=s1" in line]
    assert len(lines) == 1


def test_every_state_in_which_it_waits_has_its_questions() -> None:
    assert set(ALLOWED) == set(State) - {State.OVER}
    assert set(sessions.ALLOWED) == set(sessions.State)


def test_octets_that_are_no_message_end_the_agent(start_agent: StartAgent) -> None:
    agent = start_agent()
    os.write(agent.channel.fileno(), b"{}")
    assert agent.end() == 70


def test_a_descriptor_beside_a_question_ends_the_agent(start_agent: StartAgent) -> None:
    agent = start_agent()
    agent.channel.send(BEGIN, (0,))
    assert agent.end() == 70


# Accounts and logins at smarthosts


def test_accounts_are_numbered_as_they_are_found(start_agent: StartAgent) -> None:
    agent = start_agent(CONFIGURATION)
    log_in(agent)
    sun = found(agent, "alice@sun.test")
    moon = found(agent, "Alice@MOON.test")
    assert (sun.number, sun.host, sun.port, sun.security, sun.check_certificate) == (
        0,
        "mx.sun.test",
        465,
        "smtps",
        False,
    )
    assert (moon.number, moon.host, moon.username, moon.security) == (1, "mx.moon.test", "alice", "starttls")
    assert moon.origin.endswith("sendooway.conf:3")
    assert found(agent, "alice@sun.test") == sun
    assert found(agent, "alice@earth.test").username == ""


@pytest.mark.parametrize(
    ("mappings", "lasting"),
    [
        ("direct:alice@moon.test mx.moon.test 587 alice s3cret tls", True),
        ("direct:alice@moon.test mx.moon.test 25 - - noAuth", True),
        ("direct:alice@moon.test mx.moon.test 587 alice - tls,passwordFrom=command:true", True),
        ("direct:alice@moon.test mx.moon.test 587 alice - tls,passwordFrom=file:{folder}/password", False),
        ("fetchmail:{folder}/fetchmailrc\ndirect:* mx.moon.test 587 alice s3cret tls", False),
        ("fetchmail:{folder}/missing\ndirect:* mx.moon.test 587 alice s3cret tls", False),
        ("getmail:{folder}/*\ndirect:* mx.moon.test 587 alice s3cret tls", False),
        ("direct:* mx.moon.test 587 alice s3cret tls\nfetchmail:{folder}/fetchmailrc", True),
    ],
)
def test_an_answer_is_lasting_where_no_file_of_the_user_is_asked_for_it(
    start_agent: StartAgent, tmp_path: Path, mappings: str, lasting: bool
) -> None:
    for name in ("password", "fetchmailrc"):
        (tmp_path / name).touch(mode=0o600)
        (tmp_path / name).write_text("# one line\n")
        os.utime(tmp_path / name, (0, 0))
    lines = "".join(f"smarthostMapping = {line}\n" for line in mappings.format(folder=tmp_path).splitlines())
    agent = start_agent(f"authBackend = none\n{lines}")
    log_in(agent)
    assert [found(agent, "alice@moon.test").lasting for _ in range(3)] == [lasting] * 3


def test_the_null_reverse_path_goes_with_the_account_used_last(start_agent: StartAgent) -> None:
    agent = start_agent(CONFIGURATION)
    log_in(agent)
    assert isinstance(agent.stub.look_up("alice@sun.test", ahead=True), AccountFound)  # no mail uses it yet
    assert isinstance(agent.stub.look_up(""), AccountMissing)
    moon = found(agent, "alice@moon.test")
    assert found(agent, "") == moon


def test_a_sender_that_no_account_serves_is_told_where_it_was_searched(start_agent: StartAgent) -> None:
    agent = start_agent(CONFIGURATION)
    log_in(agent)
    answer = agent.stub.look_up("eve@moon.test")
    assert isinstance(answer, AccountMissing)
    assert len(answer.searched) == 3


def test_a_thousand_places_searched_still_fit_in_a_message(start_agent: StartAgent) -> None:
    mappings = "".join(f"smarthostMapping = getmail:/nonexistent/{'x' * 900}/{n}\n" for n in range(999))
    agent = start_agent(f"authBackend = none\n{mappings}")
    log_in(agent)
    answer = agent.stub.look_up("eve@moon.test")
    assert isinstance(answer, AccountMissing)
    assert answer.searched[-1] == f"and {999 - user.MAX_SEARCHED} more"


@pytest.mark.parametrize(
    ("offered", "refused", "mechanism", "response"),
    [
        (("PLAIN", "LOGIN"), (), "PLAIN", b"\0alice\0s3cret"),
        (("PLAIN", "LOGIN", "CRAM-MD5"), (), "CRAM-MD5", None),
        (("PLAIN", "LOGIN", "CRAM-MD5"), ("CRAM-MD5",), "PLAIN", b"\0alice\0s3cret"),
        (("LOGIN",), (), "LOGIN", None),
    ],
)
def test_the_best_mechanism_that_is_left_is_taken(
    start_agent: StartAgent,
    offered: tuple[str, ...],
    refused: tuple[str, ...],
    mechanism: str,
    response: bytes | None,
) -> None:
    agent = start_agent(CONFIGURATION)
    log_in(agent)
    number = found(agent, "alice@moon.test").number
    expected = None if response is None else Secret(response)
    assert agent.stub.begin_sasl(number, offered, refused) == SaslResponse(mechanism, expected)


def test_no_mechanism_left_is_an_answer_that_says_why(start_agent: StartAgent) -> None:
    agent = start_agent(f"{CONFIGURATION}smarthostPlain = never\n")
    log_in(agent)
    number = found(agent, "alice@moon.test").number
    answer = agent.stub.begin_sasl(number, ("PLAIN", "GSSAPI", "LOGIN"), ("LOGIN",))
    assert isinstance(answer, SaslUnavailable)
    for part in ("offered: PLAIN GSSAPI LOGIN", "not allowed here: PLAIN", "refused before: LOGIN"):
        assert part in answer.reason


def test_a_dialogue_goes_on_and_can_be_begun_again_for_another_account(start_agent: StartAgent) -> None:
    agent = start_agent(CONFIGURATION)
    log_in(agent)
    moon, sun = found(agent, "alice@moon.test"), found(agent, "alice@sun.test")
    agent.stub.begin_sasl(moon.number, ("LOGIN",), ())
    assert agent.stub.continue_sasl(b"Username:") == SaslResponse("LOGIN", Secret(b"alice"))
    agent.stub.begin_sasl(sun.number, ("LOGIN",), ())
    assert agent.stub.continue_sasl(b"Username:") == SaslResponse("LOGIN", Secret(b"bob"))
    assert agent.stub.continue_sasl(b"Password:") == SaslResponse("LOGIN", Secret(b"t0psecret"))
    assert isinstance(agent.stub.continue_sasl(b"More:"), SaslUnavailable)
    assert found(agent, "alice@moon.test") == moon


# Passwords that come from elsewhere. How they are fetched is in test_password.py and test_command.py.


def with_command(tmp_path: Path, script: str) -> str:
    """The configuration of an account whose password is what a script prints; `count` has a line for each run."""
    program = tmp_path / "password"
    program.write_text(f"#!/bin/sh\necho >> {tmp_path}/count\n{script}\n")
    program.chmod(0o700)
    mapping = f"direct:* mx.moon.test 587 alice - tls,passwordFrom=command:{program}"
    return f"authBackend = none\nsmarthostMapping = {mapping}\n"


def runs(tmp_path: Path) -> int:
    return len((tmp_path / "count").read_text().splitlines())


def said(agent: RunningAgent, *refused: str) -> SaslResponse | SaslUnavailable:
    """What the agent says in a login at a smarthost that offers PLAIN and LOGIN and has refused these."""
    return agent.stub.begin_sasl(found(agent, "x@y.test").number, ("PLAIN", "LOGIN"), refused)


def test_a_command_is_run_once_in_a_session_and_not_before_a_login(start_agent: StartAgent, tmp_path: Path) -> None:
    agent = start_agent(with_command(tmp_path, "echo s3cret"))
    log_in(agent)
    found(agent, "x@y.test")
    assert not (tmp_path / "count").exists()
    for _ in range(3):
        assert said(agent) == SaslResponse("PLAIN", Secret(b"\0alice\0s3cret"))
    assert runs(tmp_path) == 1


def test_a_password_from_before_that_is_refused_is_asked_for_anew(start_agent: StartAgent, tmp_path: Path) -> None:
    agent = start_agent(with_command(tmp_path, f"echo token-$(wc -l < {tmp_path}/count)"))
    log_in(agent)
    assert said(agent) == SaslResponse("PLAIN", Secret(b"\0alice\0token-1"))
    # It was fresh, so there is nothing newer; LOGIN is next.
    assert said(agent, "PLAIN") == SaslResponse("LOGIN", None)
    assert runs(tmp_path) == 1
    # In the next login it may be stale. All that was refused has another chance, and only one.
    assert said(agent) == SaslResponse("PLAIN", Secret(b"\0alice\0token-1"))
    assert said(agent, "PLAIN") == SaslResponse("PLAIN", Secret(b"\0alice\0token-2"))
    assert said(agent, "PLAIN", "PLAIN") == SaslResponse("LOGIN", None)
    assert isinstance(said(agent, "PLAIN", "PLAIN", "LOGIN"), SaslUnavailable)
    assert runs(tmp_path) == 2


def test_the_same_password_again_is_not_tried_again(start_agent: StartAgent, tmp_path: Path) -> None:
    agent = start_agent(with_command(tmp_path, "echo s3cret"))
    log_in(agent)
    said(agent)
    said(agent)
    assert said(agent, "PLAIN") == SaslResponse("LOGIN", None)
    assert isinstance(said(agent, "PLAIN", "LOGIN"), SaslUnavailable)
    assert runs(tmp_path) == 2


def test_a_command_that_fails_is_told_and_tried_again_at_the_next_mail(
    start_agent: StartAgent, tmp_path: Path, log_file: Path
) -> None:
    agent = start_agent(with_command(tmp_path, f"[ -e {tmp_path}/key ] || {{ echo no key >&2; exit 2; }}; echo s3cret"))
    log_in(agent)
    answer = said(agent)
    assert answer == SaslUnavailable(f"the password's command {tmp_path}/password ended with status 2: no key")
    (tmp_path / "key").touch()
    assert said(agent) == SaslResponse("PLAIN", Secret(b"\0alice\0s3cret"))
    (tmp_path / "key").unlink()
    assert said(agent) == SaslResponse("PLAIN", Secret(b"\0alice\0s3cret"))
    assert isinstance(said(agent, "PLAIN"), SaslUnavailable)
    assert "no-password session=s1" in log_file.read_text()
    assert "s3cret" not in log_file.read_text()


def test_the_agent_serves_on_after_a_command_that_takes_too_long(
    start_agent: StartAgent, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "SECONDS", 0.2)
    agent = start_agent(with_command(tmp_path, "exec sleep 1000"))
    log_in(agent)
    answer = said(agent)
    assert isinstance(answer, SaslUnavailable)
    assert answer.reason.endswith("has not ended after 0.2 seconds")
    assert isinstance(found(agent, "x@y.test"), AccountFound)


@pytest.mark.parametrize("mode", [0o600, 0o644])
def test_a_file_is_read_at_each_login(start_agent: StartAgent, tmp_path: Path, log_file: Path, mode: int) -> None:
    secret = tmp_path / "secret"
    secret.write_text("s3cret\n")
    secret.chmod(mode)
    mapping = f"direct:* mx.moon.test 587 alice - tls,passwordFrom=file:{secret}"
    agent = start_agent(f"authBackend = none\nsmarthostMapping = {mapping}\n")
    log_in(agent)
    assert said(agent) == SaslResponse("PLAIN", Secret(b"\0alice\0s3cret"))
    secret.write_text("other\n")
    assert said(agent) == SaslResponse("PLAIN", Secret(b"\0alice\0other"))
    assert log_file.read_text().count(f"password-exposed session=s1 user={ME} file={secret}") == (mode == 0o644)
    secret.unlink()
    assert said(agent) == SaslUnavailable(f"{secret}: no such file, and the password should be in it")


def test_a_credential_of_the_service_is_for_mappings_of_the_administrator(
    start_agent: StartAgent, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    (tmp_path / "moon").write_text("s3cret\n")
    mapping = "smarthostMapping = direct:{} {} 587 alice - tls,passwordFrom=credential:moon\n"
    own = tmp_path / "own"
    own.touch(0o600)
    own.write_text(mapping.format("eve@moon.test", "evil.test"))
    text = f"authBackend = none\nuserInclude = {own}\n"
    agent = start_agent(text + mapping.format("x@y.test", "mx.moon.test"))
    log_in(agent)
    assert said(agent) == SaslResponse("PLAIN", Secret(b"\0alice\0s3cret"))
    answer = agent.stub.look_up("eve@moon.test")
    assert answer == LookUpFailed(f"{own}:1: only a mapping of the administrator may take a credential")


# Logins at smarthosts with tickets. There are none here, be it that there is no package, no KDC or no ticket.

TICKETS = f"""\
{CONFIGURATION}\
smarthostMapping = direct:alice@mars.test mx.mars.test 587 - - gssapi,tls
smarthostMapping = direct:alice@pluto.test mx.pluto.test 587 alice s3cret gssapi,tls
"""


def test_an_account_for_tickets_needs_no_password_but_a_login(start_agent: StartAgent, log_file: Path) -> None:
    agent = start_agent(TICKETS)
    log_in(agent)
    account = found(agent, "alice@mars.test")
    assert account.username == ME
    answer = agent.stub.begin_sasl(account.number, ("GSSAPI", "PLAIN"), ())
    assert isinstance(answer, SaslUnavailable)
    assert answer.reason.startswith("GSSAPI: ")
    assert f"no-ticket session=s1 user={ME} smarthost=mx.mars.test reason=" in log_file.read_text()
    # That was no dialogue, so that there is nothing to go on with.
    agent.channel.send(SaslContinue(b""))
    assert agent.end() == 70


def test_where_no_ticket_logs_in_the_password_does(start_agent: StartAgent) -> None:
    agent = start_agent(TICKETS)
    log_in(agent)
    number = found(agent, "alice@pluto.test").number
    expected = SaslResponse("PLAIN", Secret(b"\0alice\0s3cret"))
    assert agent.stub.begin_sasl(number, ("GSSAPI", "PLAIN"), ()) == expected
    assert agent.stub.begin_sasl(number, ("GSSAPI", "PLAIN"), ("GSSAPI",)) == expected


def test_tickets_are_for_accounts_that_say_so(start_agent: StartAgent, log_file: Path) -> None:
    agent = start_agent(f"{TICKETS}smarthostGssapi = alwaysTry\n")
    log_in(agent)
    assert isinstance(
        agent.stub.begin_sasl(found(agent, "alice@moon.test").number, ("GSSAPI", "PLAIN"), ()), SaslResponse
    )
    assert "no-ticket" not in log_file.read_text()
    agent.stub.begin_sasl(found(agent, "alice@pluto.test").number, ("PLAIN",), ())
    assert "no-ticket" in log_file.read_text()


def test_tickets_may_be_forbidden(start_agent: StartAgent, log_file: Path) -> None:
    agent = start_agent(f"{TICKETS}smarthostGssapi = never\n")
    log_in(agent)
    answer = agent.stub.begin_sasl(found(agent, "alice@mars.test").number, ("GSSAPI", "PLAIN"), ())
    assert isinstance(answer, SaslUnavailable)
    assert "supported: GSSAPI; not allowed here: GSSAPI" in answer.reason
    assert "no-ticket" not in log_file.read_text()


def test_a_client_keytab_has_an_absolute_path(start_agent: StartAgent) -> None:
    agent = start_agent(f"{TICKETS}krb5ClientKeytab = relative\n")
    log_in(agent)
    answer = agent.stub.look_up("alice@mars.test")
    assert isinstance(answer, LookUpFailed)
    assert "krb5ClientKeytab must be an absolute path" in answer.reason


# The user's own settings


def include(tmp_path: Path, text: str) -> str:
    path = tmp_path / "own"
    path.touch(0o600)
    path.write_text(text)
    return f"{CONFIGURATION}userInclude = {path}\n"


def test_the_user_s_own_settings_and_mappings_come_first(start_agent: StartAgent, tmp_path: Path) -> None:
    own = (
        "localname = laptop.test\ncloneEhlo = yes\naddReceivedField = no\ntimeout = 7\nsmarthostPlain = never\n"
        "smarthostMapping = direct:alice@moon.test mine.test 25 me mine tls\n"
    )
    agent = start_agent(include(tmp_path, own))
    assert log_in(agent) == LoginDone(ME, "laptop.test", True, False, 7, False)
    moon = found(agent, "alice@moon.test")
    assert (moon.host, moon.origin) == ("mine.test", f"{tmp_path}/own:6")
    assert found(agent, "alice@sun.test").host == "mx.sun.test"
    answer = agent.stub.begin_sasl(moon.number, ("PLAIN", "LOGIN"), ())
    assert isinstance(answer, SaslResponse)
    assert answer.mechanism == "LOGIN"


def test_no_own_settings_are_no_error(start_agent: StartAgent) -> None:
    agent = start_agent(f"{CONFIGURATION}userInclude = %h/there/is/no/such/file\n")
    log_in(agent)
    assert found(agent, "alice@moon.test")


def test_own_settings_that_cannot_be_read_refuse_mails_and_not_the_login(
    start_agent: StartAgent, tmp_path: Path, log_file: Path
) -> None:
    agent = start_agent(include(tmp_path, "\ntimeout = hunter2\n"))
    log_in(agent)
    answer = agent.stub.look_up("alice@moon.test")
    assert isinstance(answer, LookUpFailed)
    assert answer.reason.startswith(f"{tmp_path}/own:2: timeout")
    text = log_file.read_text()
    assert "settings-refused" in text
    assert "hunter2" not in text


def test_a_file_of_accounts_that_cannot_be_read_refuses_the_mail(start_agent: StartAgent, tmp_path: Path) -> None:
    accounts = tmp_path / "accounts"
    accounts.write_text("")
    accounts.chmod(0o666)
    agent = start_agent(f"authBackend = none\nsmarthostMapping = fetchmail:{accounts}\n")
    log_in(agent)
    answer = agent.stub.look_up("alice@moon.test")
    assert isinstance(answer, LookUpFailed)
    assert answer.reason.startswith(str(accounts))
    accounts.chmod(0o600)
    assert isinstance(agent.stub.look_up("alice@moon.test"), AccountMissing)


def test_a_password_that_others_may_read_is_warned_of_once(
    start_agent: StartAgent, tmp_path: Path, log_file: Path
) -> None:
    configuration = include(tmp_path, "smarthostMapping = direct:alice@moon.test mx 25 a hush tls\n")
    (tmp_path / "own").chmod(0o644)
    agent = start_agent(configuration)
    log_in(agent)
    for _ in range(2):
        found(agent, "alice@moon.test")
    assert log_file.read_text().count("password-exposed") == 1


def test_an_own_file_of_trusted_certificates_comes_with_the_login(start_agent: StartAgent, tmp_path: Path) -> None:
    authority = tmp_path / "ca.pem"
    authority.write_bytes(b"certificates")
    agent = start_agent(include(tmp_path, f"sslCA = {authority}\n"))
    assert log_in(agent).own_ca is True
    assert agent.stub.take_ca() == b"certificates"
    assert agent.stub.take_ca() is None
    assert found(agent, "alice@moon.test")


def test_no_file_of_the_user_but_a_copy_of_it_leaves_the_agent(
    start_agent: StartAgent, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "ca.pem").write_bytes(b"certificates")
    agent = start_agent(include(tmp_path, f"sslCA = {tmp_path}/ca.pem\n"))
    came = []
    monkeypatch.setattr(client, "_read", lambda descriptor: came.append(os.readlink(f"/proc/self/fd/{descriptor}")))
    assert log_in(agent).own_ca is True
    assert came == ["/memfd:certificates (deleted)"]


def too_long(path: Path) -> None:
    path.write_bytes(b"\n" * (messages.MAX_CA_OCTETS + 1))


@pytest.mark.parametrize(
    "make", [lambda path: None, os.mkdir, os.mkfifo, too_long], ids=["missing", "folder", "fifo", "too long"]
)
def test_trusted_certificates_that_cannot_be_read_refuse_mails(
    start_agent: StartAgent, tmp_path: Path, make: Callable[[Path], None]
) -> None:
    make(tmp_path / "ca.pem")
    agent = start_agent(include(tmp_path, f"sslCA = {tmp_path}/ca.pem\n"))
    assert log_in(agent).own_ca is False
    answer = agent.stub.look_up("alice@moon.test")
    assert isinstance(answer, LookUpFailed)
    assert "ca.pem: sslCA" in answer.reason


def msmtprc(folder: Path) -> str:
    """A configuration with an account that trusts `ca.pem` only."""
    (folder / "msmtprc").touch(mode=0o600)
    (folder / "msmtprc").write_text(
        f"account a\nhost mx.moon.test\nfrom alice@moon.test\ntls on\ntls_trust_file {folder}/ca.pem\n"
    )
    return f"authBackend = none\nsmarthostMapping = msmtp:{folder}/msmtprc\n"


def test_the_trusted_certificates_of_an_account_come_with_it(start_agent: StartAgent, tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_bytes(b"certificates")
    agent = start_agent(msmtprc(tmp_path))
    log_in(agent)
    assert agent.stub.take_ca() is None
    for _ in range(2):
        answer = found(agent, "alice@moon.test")
        assert (answer.own_ca, answer.fingerprint, answer.lasting) == (True, b"", False)
        assert agent.stub.take_ca() == b"certificates"
        assert agent.stub.take_ca() is None
    assert isinstance(agent.stub.look_up("bob@moon.test"), AccountMissing)


@pytest.mark.parametrize("make", [lambda path: None, os.mkdir, os.mkfifo], ids=["missing", "folder", "fifo"])
def test_the_trusted_certificates_of_an_account_have_to_be_there(
    start_agent: StartAgent, tmp_path: Path, make: Callable[[Path], None]
) -> None:
    make(tmp_path / "ca.pem")
    agent = start_agent(msmtprc(tmp_path))
    log_in(agent)
    answer = agent.stub.look_up("alice@moon.test")
    assert isinstance(answer, LookUpFailed)
    assert "ca.pem: tls_trust_file" in answer.reason


def test_files_that_take_too_long_refuse_the_mail(
    start_agent: StartAgent, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # One such file is quick. A thousand of them, with a line for each address, are not.
    big = tmp_path / "big"
    big.write_text("poll x proto imap\n" * 19000)  # fewer than are an error
    monkeypatch.setattr(user, "READ_SECONDS", 0.02)
    agent = start_agent("authBackend = none\n" + f"smarthostMapping = fetchmail:{big}\n" * 999)
    log_in(agent)
    answer = agent.stub.look_up("alice@moon.test")
    assert isinstance(answer, LookUpFailed)
    assert "took longer than" in answer.reason
    assert isinstance(agent.stub.look_up("alice@moon.test"), LookUpFailed)


# With PAM and real users


@pytest.mark.slow
def test_the_agent_becomes_the_user_who_logs_in(
    start_agent: StartAgent, alice: User, bob: User, log_file: Path
) -> None:
    alice.write(
        ".fetchmailrc", "poll x proto imap user a pass b\n#sendooway:server mx.test\n#sendooway:address a@b.test\n"
    )
    bob.write(".fetchmailrc", "")
    agent = start_agent(
        f"smarthostMapping = fetchmail:%h/.fetchmailrc\nsmarthostMapping = fetchmail:{bob.home}/.fetchmailrc\n"
    )
    assert agent.stub.begin_login("PLAIN", plain(alice.name, bob.password)) == LoginRefused("refused", False)
    assert isinstance(agent.stub.begin_login("PLAIN", plain(alice.name, alice.password)), LoginDone)
    status = dict(
        line.split(":", 1) for line in Path(f"/proc/{agent.pid}/status").read_text().splitlines() if ":" in line
    )
    assert status["Uid"].split() == [str(alice.uid)] * 4
    assert status["Gid"].split() == [str(alice.gid)] * 4
    assert status["Groups"].split() == [str(alice.gid)]
    assert status["NoNewPrivs"].strip() == "1"
    assert int(status["CapPrm"], 16) == 0
    assert Path(f"/proc/{agent.pid}/cmdline").read_bytes().startswith(b"sendooway [agent: ")
    assert found(agent, "a@b.test").origin.startswith(f"{alice.home}/.fetchmailrc:")
    # The other user's file is out of reach.
    answer = agent.stub.look_up("x@y.test")
    assert isinstance(answer, LookUpFailed)
    assert "Permission denied" in answer.reason
    assert f"login rip=192.0.2.7 user={alice.name} mech=PLAIN" in log_file.read_text()


@pytest.mark.slow
def test_a_wrong_password_and_an_unknown_user_are_told_apart_by_nothing(start_agent: StartAgent, alice: User) -> None:
    answers, seconds = [], []
    for name in (alice.name, "no-such-user", "root", "-rf"):
        agent = start_agent("", Pace())
        begin = time.monotonic()
        answers.append(agent.stub.begin_login("PLAIN", plain(name, "wrong")))
        seconds.append(time.monotonic() - begin)
    assert answers == [LoginRefused("refused", False)] * 4
    assert min(seconds) >= 2.0, seconds


@pytest.mark.slow
def test_pam_that_never_answers_is_given_up(start_agent: StartAgent, alice: User) -> None:
    service = Path("/etc/pam.d/sendooway")
    before = service.read_text()
    service.write_text("auth required pam_exec.so quiet /bin/sleep 60\n")
    try:
        agent = start_agent("loginTimeout = 2")
        with pytest.raises(AgentError, match="ended"):
            agent.stub.begin_login("PLAIN", plain(alice.name, alice.password))
        assert agent.end() == -signal.SIGALRM
    finally:
        service.write_text(before)


@pytest.mark.slow
def test_without_a_pam_service_a_login_is_to_be_tried_later(
    start_agent: StartAgent, alice: User, log_file: Path
) -> None:
    service = Path("/etc/pam.d/sendooway")
    before = service.read_text()
    service.unlink()
    try:
        agent = start_agent("", QUICK)
        answer = agent.stub.begin_login("PLAIN", plain(alice.name, alice.password))
        assert answer == LoginRefused("later", False)
        assert "there is no /etc/pam.d/sendooway" in log_file.read_text()
    finally:
        service.write_text(before)
