"""The processes: who runs as whom while a session is open, and what signals and deaths lead to."""

import os
import pwd
import signal
import smtplib
import ssl
import time
from contextlib import suppress
from pathlib import Path

import pytest
from end_to_end.messages import HEADER
from servers.processes import PATIENCE, accepts, free_port, has_ipv6, is_running, title, wait_until, wait_until_gone
from servers.program import Connect, Sendooway, Start
from servers.scripted import ScriptedSmarthost
from servers.users import User

pytestmark = pytest.mark.slow

CONTENT = HEADER + b"Hello.\r\n"
ME = (pwd.getpwuid(os.geteuid()).pw_name, "not checked")
MAPPING = "authBackend = none\nsmarthostMapping = direct:alice@moon.test localhost {port} - - noAuth"


def test_the_agent_of_a_logged_in_session_is_that_user_for_good(start: Start, connect: Connect, alice: User) -> None:
    sendooway = start()
    connect(sendooway, alice)
    (agent,) = sendooway.role(f"agent: {alice.name}")
    assert agent.uids == (alice.uid,) * 4
    assert agent.gids == (alice.gid,) * 4
    assert set(agent.groups) == {alice.gid}
    assert agent.no_new_privileges
    assert agent.permitted_capabilities == agent.effective_capabilities == 0


def test_the_proxy_has_no_rights_before_and_after_login(start: Start, connect: Connect, alice: User) -> None:
    sendooway = start()
    sendooway.wait_for_log("ready proxies=")
    connect(sendooway)
    before = sendooway.role("proxy")
    connect(sendooway, alice)
    assert sendooway.role("proxy") == before
    for proxy in before:
        assert 0 not in proxy.uids
        assert 0 not in proxy.gids
        assert 0 not in proxy.groups
        assert proxy.uids[0] not in (alice.uid, *(status.uids[0] for status in sendooway.role("agent")))
        assert proxy.no_new_privileges
        assert proxy.permitted_capabilities == proxy.effective_capabilities == 0


def test_up_to_four_sessions_of_a_user_share_an_agent_and_nobody_elses_do(
    start: Start, connect: Connect, alice: User, bob: User
) -> None:
    sendooway = start()
    clients = [connect(sendooway, user) for user in (alice, bob, alice, alice, alice)]
    uids = [agent.uids[0] for name in (alice.name, bob.name) for agent in sendooway.role(f"agent: {name}")]
    assert uids == [alice.uid, bob.uid]
    clients.append(connect(sendooway, alice))
    assert len(sendooway.role(f"agent: {alice.name}")) == 2
    assert all(client.noop()[0] == 250 for client in clients)


def test_an_agent_is_there_for_the_next_session_of_its_user_and_ends_when_none_comes(
    start: Start, connect: Connect, alice: User
) -> None:
    sendooway = start()
    connect(sendooway, alice).quit()
    sendooway.wait_for_log("disconnect")
    agent = sendooway.only(f"agent: {alice.name}")
    connect(sendooway, alice).quit()
    assert sendooway.only(f"agent: {alice.name}") == agent
    wait_until(lambda: not sendooway.role("agent"), "the end of all agents")


def test_a_session_that_does_not_try_to_log_in_has_no_agent(start: Start, connect: Connect) -> None:
    sendooway = start("authBackend = none")
    connect(sendooway)
    assert sendooway.role("agent") == []


def test_no_secret_is_in_any_argument_vector(start: Start, connect: Connect, alice: User) -> None:
    sendooway = start()
    connect(sendooway, alice)
    for pid in sendooway.processes():
        assert alice.password not in title(pid)


def test_sigterm_without_sessions_ends_at_once(start: Start) -> None:
    sendooway = start("authBackend = none")
    begin = time.monotonic()
    sendooway.process.send_signal(signal.SIGTERM)
    assert sendooway.process.wait(PATIENCE) == 0
    assert time.monotonic() - begin < 20


def within_a_message(sendooway: Sendooway, connect: Connect) -> smtplib.SMTP:
    """A client that has sent a part of one."""
    client = connect(sendooway, ME)
    client.mail("alice@moon.test")
    client.rcpt("bob@mars.test")
    assert client.docmd("DATA")[0] == 354
    client.send(CONTENT)
    return client


def test_sigterm_lets_a_running_mail_finish(start: Start, connect: Connect) -> None:
    with ScriptedSmarthost() as smarthost:
        sendooway = start(MAPPING.format(port=smarthost.port))
        client = within_a_message(sendooway, connect)
        sendooway.process.send_signal(signal.SIGTERM)
        wait_until(lambda: not accepts(sendooway.port), "the end of listening")
        assert sendooway.process.poll() is None
        client.send(b"more\r\n.\r\n")
        assert client.getreply()[0] == 250
        assert smarthost.mails[0].complete
        client.close()
        assert sendooway.process.wait(PATIENCE) == 0


def test_a_new_server_takes_over_while_the_sessions_of_the_old_one_end(start: Start, connect: Connect) -> None:
    with ScriptedSmarthost() as smarthost:
        old = start(MAPPING.format(port=smarthost.port))
        client = within_a_message(old, connect)
        old.process.send_signal(signal.SIGTERM)
        wait_until(lambda: not accepts(old.port), "the end of listening")
        new = start(MAPPING.format(port=smarthost.port), port=old.port)
        connect(new, ME).sendmail("alice@moon.test", ["new@mars.test"], CONTENT)
        client.send(b".\r\n")
        assert client.getreply()[0] == 250
        client.close()
        assert old.process.wait(PATIENCE) == 0
        assert [mail.complete for mail in smarthost.mails] == [True, True]


def test_sighup_brings_a_new_configuration_for_new_connections(start: Start, connect: Connect) -> None:
    with ScriptedSmarthost() as smarthost:
        sendooway = start(MAPPING.format(port=smarthost.port))
        old = connect(sendooway, ME)
        sendooway.configure(MAPPING.replace("alice@moon", "new@moon").format(port=smarthost.port) + "\n")
        sendooway.process.send_signal(signal.SIGHUP)

        def serves_the_new_identity() -> bool:
            with smtplib.SMTP("localhost", sendooway.port, timeout=PATIENCE) as new:
                new.ehlo()
                new.login(*ME)
                return new.mail("new@moon.test")[0] == 250

        wait_until(serves_the_new_identity, "the new configuration")
        assert old.mail("alice@moon.test")[0] == 250
        assert sendooway.process.poll() is None


def test_sighup_with_a_bad_configuration_keeps_the_old_one(start: Start, connect: Connect) -> None:
    with ScriptedSmarthost() as smarthost:
        sendooway = start(MAPPING.format(port=smarthost.port))
        sendooway.configure("authBackend = none\nsmarthostMaping = direct:x\n")
        sendooway.process.send_signal(signal.SIGHUP)
        line = sendooway.wait_for_log("smarthostMaping")
        assert "sendooway.conf:2" in line
        assert connect(sendooway, ME, secure=False).mail("alice@moon.test")[0] == 250


def test_sighup_opens_the_log_file_again(start: Start, connect: Connect) -> None:
    sendooway = start("authBackend = none")
    log = sendooway.folder / "sendooway.log"
    log.rename(log.with_suffix(".1"))
    sendooway.process.send_signal(signal.SIGHUP)
    wait_until(log.exists, "the new log file")
    sendooway.wait_for_log("reloaded")
    connect(sendooway, ME)
    sendooway.wait_for_log("login")


def test_a_killed_proxy_is_replaced(start: Start, connect: Connect, tls: ssl.SSLContext) -> None:
    sendooway = start("authBackend = none\nworkers = 1")
    client = connect(sendooway, ME)
    proxy = sendooway.only("proxy")
    os.kill(proxy, signal.SIGKILL)
    wait_until_gone([proxy])
    with pytest.raises((smtplib.SMTPServerDisconnected, OSError)):
        client.noop()
    wait_until(lambda: sendooway.role("proxy"), "a new proxy")
    assert connect(sendooway, ME).noop()[0] == 250
    assert sendooway.only("proxy") != proxy


def test_a_killed_agent_is_replaced_and_ends_no_session(start: Start, connect: Connect) -> None:
    with ScriptedSmarthost() as smarthost:
        sendooway = start(MAPPING.format(port=smarthost.port))
        clients = [connect(sendooway, ME), connect(sendooway, ME)]
        agent = sendooway.only(f"agent: {ME[0]}")
        os.kill(agent, signal.SIGKILL)
        for client in clients:
            assert client.mail("alice@moon.test")[0] == 250
        assert not is_running(agent)
        wait_until(lambda: sendooway.log.count("agent-replaced") == 2, "the last line")


def test_after_a_killed_agent_each_mail_goes_through_its_own_account(start: Start, connect: Connect) -> None:
    with ScriptedSmarthost() as moon, ScriptedSmarthost() as sun:
        sendooway = start(
            "authBackend = none\n"
            f"smarthostMapping = direct:alice@moon.test localhost {moon.port} - - noAuth\n"
            f"smarthostMapping = direct:alice@sun.test localhost {sun.port} - - noAuth\n"
        )
        client = connect(sendooway, ME)
        client.sendmail("alice@moon.test", ["bob@mars.test"], CONTENT)
        os.kill(sendooway.only(f"agent: {ME[0]}"), signal.SIGKILL)
        client.sendmail("alice@sun.test", ["bob@mars.test"], CONTENT)
        assert (len(moon.mails), len(sun.mails)) == (1, 1)


def test_an_agent_that_is_killed_while_somebody_logs_in_ends_that_session_only(start: Start, connect: Connect) -> None:
    sendooway = start("authBackend = none")
    first, second = connect(sendooway), connect(sendooway, ME)
    assert first.docmd("AUTH", "LOGIN")[0] == 334
    agent = sendooway.only("agent]")
    os.kill(agent, signal.SIGKILL)
    wait_until(lambda: not is_running(agent), "the end of the agent")
    assert first.docmd("YWxpY2U=")[0] == 421
    assert second.noop()[0] == 250


def test_who_kills_the_own_agent_leaves_nothing_running(start: Start, connect: Connect, tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_text(
        f"#!/bin/sh\nsetsid sleep 1000 &\necho $! > {tmp_path}/new\nmv {tmp_path}/new {tmp_path}/pid\nkill -9 $PPID\n"
    )
    program.chmod(0o700)
    with ScriptedSmarthost() as smarthost:
        way = f"localhost {smarthost.port} alice - passwordFrom=command:{program}"
        sendooway = start(f"authBackend = none\nsmarthostMapping = direct:* {way}")
        with suppress(smtplib.SMTPException):
            connect(sendooway, ME).mail("alice@moon.test")
    left = int((tmp_path / "pid").read_text())
    try:
        wait_until(lambda: not is_running(left), "the end of what the user has started")
    finally:
        with suppress(ProcessLookupError):
            os.kill(left, signal.SIGKILL)


def test_after_the_monitors_death_sessions_may_finish_and_no_process_is_left(start: Start, connect: Connect) -> None:
    sendooway = start("authBackend = none\nworkers = 1")
    sendooway.expected_status = -signal.SIGKILL
    client = connect(sendooway, ME)
    everyone = sendooway.processes()
    assert len(everyone) == 3
    sendooway.process.kill()
    sendooway.process.wait()
    wait_until(lambda: not accepts(sendooway.port), "the end of listening")
    assert client.noop()[0] == 250
    client.quit()
    wait_until_gone(everyone)


def test_bind_listens_on_ipv4_and_ipv6(start: Start) -> None:
    port = free_port()
    start("authBackend = none\nvalidUser = %no-such-group", "-b", str(port), port=port)
    assert accepts(port, "127.0.0.1")
    if has_ipv6():
        assert accepts(port, "::1")


def test_only_who_finds_all_workers_full_is_turned_away(start: Start, connect: Connect) -> None:
    sendooway = start("authBackend = none\nworkers = 3\nmaxSessions = 2")

    def one_more() -> bool:
        try:
            return connect(sendooway, ME).noop()[0] == 250
        except smtplib.SMTPConnectError:
            return False  # the others were at work in that moment

    for _ in range(6):
        wait_until(one_more, "a place in one of the workers")
    with pytest.raises(smtplib.SMTPConnectError):
        connect(sendooway)


def test_several_workers_serve_the_same_port(start: Start, connect: Connect) -> None:
    sendooway = start("authBackend = none\nworkers = 3")
    wait_until(lambda: len(sendooway.role("proxy")) == 3, "three proxies")
    for _ in range(6):
        assert connect(sendooway, ME).noop()[0] == 250
