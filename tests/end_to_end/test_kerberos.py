"""Tickets instead of passwords: a real KDC, real mail programs, and a smarthost that takes tickets too."""

import json
import os
import shutil
import smtplib
import socket
import subprocess
import time
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from end_to_end.messages import HEADER, without_received
from servers import postfix as postfix_
from servers.certificates import Certificates
from servers.postfix import Postfix, Tickets
from servers.processes import free_port, wait_until
from servers.program import ONE_FILE, Connect, Sendooway, Start, command
from servers.realm import Realm
from servers.users import User

pytestmark = pytest.mark.slow

SENDERS = {"alice@example.test": "alice@EXAMPLE.TEST", "robot@example.test": "robot@EXAMPLE.TEST"}
CONTENT = HEADER + b"With a ticket.\r\n"


@pytest.fixture(scope="module")
def realm_postfix(shared_folder: Path, certificates: Certificates, realm: Realm, keytab: Path) -> Iterator[Postfix]:
    """The realm's smarthost, which takes tickets."""
    if reason := postfix_.why_not():
        pytest.skip(reason)
    folder = shared_folder / "realm-postfix"
    folder.mkdir()
    server = Postfix(folder, certificates.good, {}, Tickets(realm, keytab, SENDERS))
    try:
        server.start()
        yield server
    finally:
        server.stop()


Run = Callable[..., Sendooway]


@pytest.fixture
def run(start: Start, realm: Realm, keytab: Path) -> Run:
    """Start Sendooway in the realm."""

    def run(configuration: str = "", *options: str, krb5_conf: Path | None = None) -> Sendooway:
        return start(
            configuration if "krb5Keytab" in configuration else f"krb5Keytab = {keytab}\n{configuration}",
            *options,
            environment={"KRB5_CONFIG": str(krb5_conf or realm.configuration)},
        )

    return run


@dataclass(frozen=True)
class Submission:
    """One mail that a client program is to send with a ticket."""

    port: int
    authority: Path
    file: Path
    sender: str
    recipient: str = "bob@mars.test"


Client = Callable[[Submission], list[str]]
"""The command with which a program sends the mail."""


def curl(mail: Submission) -> list[str]:
    return [
        *("curl", "--silent", "--show-error", "--cacert", str(mail.authority), "--ssl-reqd"),
        *("--url", f"smtp://localhost:{mail.port}", "--login-options", "AUTH=GSSAPI", "--user", ":"),
        *("--mail-from", mail.sender, "--mail-rcpt", mail.recipient, "--upload-file", str(mail.file)),
    ]


def msmtp(mail: Submission) -> list[str]:
    return [
        *("msmtp", "--file=/dev/null", "--host=localhost", f"--port={mail.port}"),
        *("--tls=on", "--tls-starttls=on", f"--tls-trust-file={mail.authority}"),
        *("--auth=gssapi", "--user=alice", f"--from={mail.sender}", mail.recipient),
    ]


def mutt(mail: Submission) -> list[str]:
    settings = {
        "smtp_url": f"smtp://sendooway-alice@localhost:{mail.port}/",
        "smtp_authenticators": "gssapi",
        "ssl_force_tls": "yes",
        "ssl_starttls": "yes",
        "certificate_file": str(mail.authority),
        "from": mail.sender,
        "use_envelope_from": "yes",
        "envelope_from_address": mail.sender,
        "copy": "no",
    }
    return [
        *("mutt", "-n", "-F", "/dev/null"),
        *(word for name, value in settings.items() for word in ("-e", f'set {name}="{value}"')),
        *("-s", "Ticket", mail.recipient),
    ]


def s_nail(mail: Submission) -> list[str]:
    return [
        *("s-nail", "-:/", "-Sv15-compat", "-Sverbose", f"-Smta=smtp://sendooway-alice@localhost:{mail.port}"),
        *("-Ssmtp-auth=gssapi", "-Ssmtp-use-starttls", f"-Stls-ca-file={mail.authority}", "-Stls-verify=strict"),
        *("-Stls-ca-no-defaults", f"-Sfrom={mail.sender}", "-s", "Ticket", mail.recipient),
    ]


# How a program wants to be given the message, where that is not as it is: with the line ends of UNIX, or only its text.
FORMS: dict[Client, bytes] = {
    msmtp: CONTENT.replace(b"\r\n", b"\n"),
    mutt: b"With a ticket.\n",
    s_nail: b"With a ticket.\n",
}


Gss = Callable[..., Any]
Ask = Callable[..., tuple[int, bytes]]
LogIn = Callable[[Sendooway, str], smtplib.SMTP]


@pytest.fixture
def gss(monkeypatch: pytest.MonkeyPatch) -> Gss:
    """A client's security context with the tickets of an environment."""
    gssapi = pytest.importorskip("gssapi")

    def make(environment: dict[str, str], service: str = "smtp") -> Any:
        monkeypatch.setenv("KRB5_CONFIG", environment["KRB5_CONFIG"])
        kerberos = gssapi.MechType.kerberos
        store = {"ccache": environment["KRB5CCNAME"]}
        return gssapi.SecurityContext(
            name=gssapi.Name(f"{service}@localhost", gssapi.NameType.hostbased_service),
            creds=gssapi.Credentials(usage="initiate", mechs=[kerberos], store=store),
            mech=kerberos,
            usage="initiate",
        )

    return make


def authenticate(client: smtplib.SMTP, context: Any, authzid: str = "") -> tuple[int, bytes]:
    """AUTH GSSAPI with an initial response; gives the last reply."""
    code, text = client.docmd("AUTH", "GSSAPI " + b64encode(context.step()).decode())
    while code == 334 and not context.complete:
        answer = context.step(b64decode(text))
        code, text = client.docmd(b64encode(answer or b"").decode())
    if code == 334:
        assert context.unwrap(b64decode(text)).message == b"\1\0\0\0"
        last = context.wrap(b"\1\0\0\0" + authzid.encode(), False).message
        code, text = client.docmd(b64encode(last).decode())
    return code, text


@pytest.fixture
def ask(connect: Connect, gss: Gss) -> Ask:
    """Log in with the ticket of an environment; gives the last reply."""

    def run(
        sendooway: Sendooway, environment: dict[str, str], authzid: str = "", service: str = "smtp"
    ) -> tuple[int, bytes]:
        return authenticate(connect(sendooway), gss(environment, service), authzid)

    return run


@pytest.fixture
def log_in(connect: Connect, gss: Gss, realm: Realm) -> LogIn:
    """A client that has logged in as NAME, and delegates nothing."""

    def run(sendooway: Sendooway, name: str) -> smtplib.SMTP:
        client = connect(sendooway)
        assert authenticate(client, gss(realm.log_in(name, f"{name}-secret")))[0] == 235, sendooway.log
        return client

    return run


@pytest.fixture
def sender(alice: User, realm_postfix: Postfix) -> User:
    """Two identities that go through the realm's smarthost, with tickets only."""
    alice.write(
        ".getmail/getmailrc",
        f"[sender]\ntype = SimpleSMTPTLSSender\nserver = localhost\nport = {realm_postfix.port}\n"
        f"gssapi = true\naddress = {', '.join(SENDERS)}\n",
    )
    return alice


Submit = Callable[..., "subprocess.CompletedProcess[bytes]"]


@pytest.fixture
def submit(tmp_path: Path, certificates: Certificates) -> Submit:
    """Send a mail through Sendooway by a program that has the tickets of an environment."""

    def run(
        sendooway: Sendooway, client: Client, environment: dict[str, str], *options: str, sender: str = ""
    ) -> "subprocess.CompletedProcess[bytes]":
        if not shutil.which(client.__name__.replace("_", "-")):
            pytest.skip(f"{client.__name__} is not installed")
        file = tmp_path / "message"
        file.write_bytes(FORMS.get(client, CONTENT))
        mail = Submission(sendooway.port, certificates.authority, file, sender or "alice@example.test")
        with file.open("rb") as stdin:
            return subprocess.run(
                [*client(mail), *options], stdin=stdin, env=environment, capture_output=True, timeout=60, check=False
            )

    return run


def assert_sent(done: "subprocess.CompletedProcess[bytes]", sendooway: Sendooway) -> None:
    assert done.returncode == 0, done.stdout.decode() + done.stderr.decode() + sendooway.log


# Mail programs


@pytest.mark.parametrize("client", [curl, msmtp, mutt, s_nail], ids=lambda client: client.__name__)
def test_a_mail_program_with_a_ticket_sends_through_an_account_without_a_password(
    client: Client, run: Run, realm: Realm, realm_postfix: Postfix, sender: User, submit: Submit
) -> None:
    cache = f"default_ccache_name = FILE:{sender.home}/cache"
    sendooway = run(krb5_conf=realm.configure("cache", cache))
    give_ticket(realm, sender)
    assert_sent(submit(sendooway, client, realm.log_in("alice", "alice-secret")), sendooway)
    login, delivery = realm_postfix.take("bob@mars.test")
    assert (login, delivery.sender) == ("alice@EXAMPLE.TEST", "alice@example.test")
    assert b"With a ticket.\r\n" in delivery.content
    if client in (curl, msmtp):
        assert without_received(delivery.content) == CONTENT
    line = sendooway.wait_for_log(" login ", "mech=GSSAPI")
    assert f"user={sender.name} mech=GSSAPI principal=alice@EXAMPLE.TEST" in line


def give_ticket(realm: Realm, user: User, *options: str) -> Path:
    """alice's ticket, in the user's own file."""
    cache = user.home / "cache"
    shutil.copy(realm.log_in("alice", "alice-secret", *options)["KRB5CCNAME"].removeprefix("FILE:"), cache)
    os.chown(cache, user.uid, user.gid)
    cache.chmod(0o600)
    return cache


@pytest.mark.skipif(not ONE_FILE.exists(), reason="`make dist` has not made dist/sendooway")
def test_sessions_with_password_and_with_ticket_do_not_notice_that_the_program_is_replaced(
    run: Run,
    alice_with_two_identities: User,
    postfix: Postfix,
    connect: Connect,
    log_in: LogIn,
    monkeypatch: pytest.MonkeyPatch,
    shared_folder: Path,
) -> None:
    program = Path(shutil.copy(ONE_FILE, shared_folder))
    monkeypatch.setenv("SENDOOWAY_PROGRAM", str(program))
    sendooway = run()
    sessions = [connect(sendooway, alice_with_two_identities), log_in(sendooway, "alice")]
    program.write_bytes(b"a file that is no zip\n" * 100_000)
    sessions += [connect(sendooway, alice_with_two_identities), log_in(sendooway, "alice")]
    for session in sessions:
        session.sendmail("alice@moon.test", ["bob@mars.test"], CONTENT)
        login, delivery = postfix.take("bob@mars.test")
        assert (login, without_received(delivery.content)) == ("alice-moon", CONTENT)
    assert "ImportError" not in sendooway.log


# At the smarthost


def test_a_ticket_that_the_client_delegates_logs_in_at_the_smarthost(
    run: Run, realm: Realm, realm_postfix: Postfix, sender: User, submit: Submit
) -> None:
    sendooway = run()
    ticket = realm.log_in("alice", "alice-secret", "-f")
    assert_sent(submit(sendooway, curl, ticket, "--delegation", "always"), sendooway)
    login, delivery = realm_postfix.take("bob@mars.test")
    assert login == "alice@EXAMPLE.TEST"
    assert without_received(delivery.content) == CONTENT
    assert "sasl_method=GSSAPI, sasl_username=alice@EXAMPLE.TEST" in realm_postfix.log()


def test_the_user_s_client_keytab_logs_in_where_there_is_no_ticket(
    run: Run, realm: Realm, realm_postfix: Postfix, sender: User, submit: Submit
) -> None:
    realm.add("robot")
    keytab = realm.write_keytab(sender.home / "robot.keytab", "robot")
    os.chown(keytab, sender.uid, sender.gid)
    sender.write(".sendoowayrc", "krb5ClientKeytab = %h/robot.keytab\n")
    sendooway = run("userInclude = %h/.sendoowayrc")
    ticket = realm.log_in("alice", "alice-secret")
    assert_sent(submit(sendooway, curl, ticket, sender="robot@example.test"), sendooway)
    assert realm_postfix.take("bob@mars.test")[0] == "robot@EXAMPLE.TEST"


def test_without_any_ticket_the_client_hears_what_is_missing(
    run: Run, realm: Realm, sender: User, log_in: LogIn
) -> None:
    sendooway = run()
    client = log_in(sendooway, "alice")
    code, text = client.mail("alice@example.test")
    assert (code, text[:5]) == (454, b"4.7.0")
    for part in (b"localhost", b"login", b"no ticket", b"credential cache", b"kinit"):
        assert part in text
    sendooway.wait_for_log("no-ticket", "get a ticket with kinit")


def test_an_expired_ticket_is_said_to_be_one(run: Run, realm: Realm, sender: User, log_in: LogIn) -> None:
    sendooway = run(krb5_conf=realm.configure("cache", f"default_ccache_name = FILE:{sender.home}/cache"))
    cache = give_ticket(realm, sender, "-l", "1s")
    client = log_in(sendooway, "alice")
    wait_until(lambda: time.time() > cache.stat().st_mtime + 2, "the end of the ticket")
    assert client.mail("alice@example.test")[0] == 454
    sendooway.wait_for_log("no-ticket", "xpired", "kinit")


def test_a_kdc_that_does_not_answer_is_given_up(run: Run, realm: Realm, sender: User, log_in: LogIn) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        cache = f"default_ccache_name = FILE:{sender.home}/cache"
        sendooway = run(krb5_conf=realm.configure("silent", cache, kdc=address))
        give_ticket(realm, sender)
        client = log_in(sendooway, "alice")
        code, text = client.mail("alice@example.test")
    assert code == 454
    assert b"no KDC answered within 8 seconds" in text


def test_a_smarthost_that_is_no_service_of_the_realm_is_named(
    run: Run, realm: Realm, alice: User, realm_postfix: Postfix, log_in: LogIn
) -> None:
    mapping = f"direct:* 127.0.0.1 {realm_postfix.port} - - gssapi,tls"
    sendooway = run(
        f"smarthostMapping = {mapping}",
        krb5_conf=realm.configure("c", f"default_ccache_name = FILE:{alice.home}/cache"),
    )
    give_ticket(realm, alice)
    assert log_in(sendooway, "alice").mail("alice@example.test")[0] == 454, sendooway.log
    sendooway.wait_for_log("no-ticket", "smtp/127.0.0.1@EXAMPLE.TEST not found in Kerberos database", "addprinc")


def test_constrained_delegation_logs_in_where_the_client_delegates_nothing(
    run: Run, realm: Realm, realm_postfix: Postfix, sender: User, log_in: LogIn
) -> None:
    # Postfix is the same service here, so the client's ticket for us is the one for it. To a KDC with MIT's DB2 back
    # end nobody can say which others are permitted: that takes LDAP. The next test shows that it is asked.
    client = log_in(run("krb5ConstrainedDelegation = yes"), "alice")
    client.sendmail("alice@example.test", ["bob@mars.test"], CONTENT)
    login, delivery = realm_postfix.take("bob@mars.test")
    assert login == "alice@EXAMPLE.TEST"
    assert without_received(delivery.content) == CONTENT


def test_where_the_kdc_does_not_permit_constrained_delegation_the_log_says_so(
    run: Run, realm: Realm, realm_postfix: Postfix, alice: User, log_in: LogIn
) -> None:
    realm.add("smtp/127.1")
    mapping = f"smarthostMapping = direct:* 127.1 {realm_postfix.port} - - gssapi,tls,noCertCheck"
    sendooway = run(f"krb5ConstrainedDelegation = yes\n{mapping}")
    assert log_in(sendooway, "alice").mail("alice@example.test")[0] == 454, sendooway.log
    sendooway.wait_for_log("no-ticket", "delegated by the client", "KDC can't fulfill requested option", "forwardable")


def test_constrained_delegation_that_the_kdc_cannot_be_asked_for_keeps_nobody_out(
    run: Run, realm: Realm, sender: User, log_in: LogIn
) -> None:
    sendooway = run(
        "krb5ConstrainedDelegation = yes", krb5_conf=realm.configure("dead", kdc=f"127.0.0.1:{free_port()}")
    )
    log_in(sendooway, "alice")
    sendooway.wait_for_log("no-delegation", "Cannot contact any KDC")


# Who may log in


def test_a_principal_of_another_realm_is_nobody_until_a_user_lets_it_in(
    run: Run, realm: Realm, alice: User, shared_folder: Path, ask: Ask
) -> None:
    folder = shared_folder / "foreign"
    folder.mkdir()
    with Realm(folder, "FOREIGN.TEST") as foreign:
        foreign.add("eve", "eve-secret")
        foreign.add("smtp/localhost")
        # Where both realms trust this server. Theirs do not trust each other.
        both = foreign.write_keytab(folder / "both.keytab", "smtp/localhost")
        sendooway = run(f"krb5Keytab = {both}")
        ticket = foreign.log_in("eve", "eve-secret")
        assert ask(sendooway, ticket)[0] == 535
        sendooway.wait_for_log("auth-failure", "user=eve@FOREIGN.TEST", "no-local-user")
        assert ask(sendooway, ticket, authzid=alice.name)[0] == 535
        sendooway.wait_for_log("auth-failure", "user=eve@FOREIGN.TEST", f"not-permitted-as {alice.name}")
        alice.write(".k5login", "eve@FOREIGN.TEST\n")
        assert ask(sendooway, ticket, authzid=alice.name)[0] == 235


@pytest.mark.parametrize(
    ("authzid", "k5login", "code"),
    [
        ("sendooway-alice", None, 235),
        ("sendooway-bob", None, 535),
        ("root", None, 535),
        ("no-such-user", None, 535),
        ("../alice", None, 535),
        ("sendooway-bob", "alice@EXAMPLE.TEST\n", 235),
        ("", "carol@EXAMPLE.TEST\n", 235),
    ],
)
def test_a_principal_acts_as_the_user_that_lets_it_in(
    run: Run, realm: Realm, alice: User, bob: User, ask: Ask, authzid: str, k5login: str | None, code: int
) -> None:
    if k5login is not None:
        bob.write(".k5login", k5login)
    assert ask(run(), realm.log_in("alice", "alice-secret"), authzid=authzid)[0] == code


def test_a_k5login_keeps_out_whom_it_does_not_name(run: Run, realm: Realm, alice: User, ask: Ask) -> None:
    alice.write(".k5login", "carol@EXAMPLE.TEST\n")
    assert ask(run(), realm.log_in("alice", "alice-secret"))[0] == 535


def test_a_principal_without_a_local_user_is_refused(run: Run, realm: Realm, alice: User, ask: Ask) -> None:
    realm.add("nobody-here", "secret")
    realm.add("alice/admin", "secret")
    sendooway = run()
    for principal, reason in (("nobody-here", "no-local-account"), ("alice/admin", "no-local-user")):
        assert ask(sendooway, realm.log_in(principal, "secret")) == (535, b"5.7.8 Authentication failed")
        sendooway.wait_for_log("auth-failure", f"user={principal}@EXAMPLE.TEST", reason)


def test_valid_user_counts_for_tickets_too(run: Run, realm: Realm, alice: User, bob: User, ask: Ask) -> None:
    sendooway = run(f"validUser = {bob.name}")
    assert ask(sendooway, realm.log_in("alice", "alice-secret"))[0] == 535
    sendooway.wait_for_log("auth-failure", "not-in-validUser")
    assert ask(sendooway, realm.log_in("bob", "bob-secret"))[0] == 235


def test_passwords_and_tickets_are_taken_on_one_port(
    run: Run, realm: Realm, alice: User, bob: User, connect: Connect, ask: Ask
) -> None:
    sendooway = run()
    client = connect(sendooway)
    assert client.esmtp_features["auth"].split() == ["GSSAPI", "PLAIN", "LOGIN"]
    client.login(alice.name, alice.password)
    assert ask(sendooway, realm.log_in("bob", "bob-secret"))[0] == 235


@pytest.mark.parametrize(("configuration", "code"), [("", 535), ("krb5PamAccount = no", 235)])
def test_pam_is_asked_whether_an_account_has_expired(
    run: Run, realm: Realm, alice: User, ask: Ask, configuration: str, code: int
) -> None:
    sendooway = run(configuration)
    subprocess.run(["/usr/bin/chage", "--expiredate", "1", alice.name], check=True)
    try:
        assert ask(sendooway, realm.log_in("alice", "alice-secret"))[0] == code
    finally:
        subprocess.run(["/usr/bin/chage", "--expiredate", "-1", alice.name], check=True)
    if code == 535:
        sendooway.wait_for_log("auth-failure", "mech=GSSAPI", "user=alice@EXAMPLE.TEST", "account-expired")


def test_tickets_alone_may_be_offered(run: Run, realm: Realm, alice: User, connect: Connect, ask: Ask) -> None:
    sendooway = run("authMechanisms = gssapi\nkrb5PamAccount = no")
    client = connect(sendooway)
    assert client.esmtp_features["auth"].split() == ["GSSAPI"]
    assert client.docmd("AUTH", "PLAIN")[0] == 504
    assert ask(sendooway, realm.log_in("alice", "alice-secret"))[0] == 235


def test_passwords_alone_may_be_offered(run: Run, realm: Realm, alice: User, connect: Connect) -> None:
    client = connect(run("authMechanisms = PLAIN"), alice)
    assert client.esmtp_features["auth"].split() == ["PLAIN"]


# What goes wrong


def test_without_a_keytab_all_but_gssapi_works_and_the_log_says_what_is_missing(
    start: Start, alice: User, connect: Connect
) -> None:
    sendooway = start("krb5Keytab = /nonexistent/krb5.keytab")
    client = connect(sendooway, alice)
    assert client.esmtp_features["auth"].split() == ["PLAIN", "LOGIN"]
    sendooway.wait_for_log("no-gssapi", "/nonexistent/krb5.keytab", "kadmin ktadd")


def test_a_keytab_that_has_gone_is_said_to_have(
    run: Run, realm: Realm, keytab: Path, tmp_path: Path, alice: User, ask: Ask
) -> None:
    copy = tmp_path / "copy.keytab"
    shutil.copy(keytab, copy)
    sendooway = run(f"krb5Keytab = {copy}")
    copy.unlink()
    assert ask(sendooway, realm.log_in("alice", "alice-secret")) == (535, b"5.7.8 Authentication failed")
    sendooway.wait_for_log("auth-failure", str(copy), "No such file or directory")


def test_a_token_is_good_once(run: Run, realm: Realm, alice: User, connect: Connect, gss: Gss) -> None:
    sendooway = run()
    token = gss(realm.log_in("alice", "alice-secret")).step()
    for code in (334, 535):
        assert connect(sendooway).docmd("AUTH", "GSSAPI " + b64encode(token).decode())[0] == code
    sendooway.wait_for_log("auth-failure", "Request is a replay (minor")


def test_clocks_that_differ_are_named(run: Run, realm: Realm, alice: User, connect: Connect, gss: Gss) -> None:
    sendooway = run(krb5_conf=realm.configure("strict", "clockskew = 1"))
    token, made = gss(realm.log_in("alice", "alice-secret")).step(), time.time()
    wait_until(lambda: time.time() > made + 2.5, "the token to be too old")
    assert connect(sendooway).docmd("AUTH", "GSSAPI " + b64encode(token).decode())[0] == 535
    sendooway.wait_for_log("auth-failure", "Clock skew too great", "NTP")


def test_a_ticket_for_another_service_is_refused(run: Run, realm: Realm, alice: User, keytab: Path, ask: Ask) -> None:
    for name in ("host/localhost", "imap/localhost"):
        realm.add(name)
    more = keytab.with_name("more.keytab")
    shutil.copy(keytab, more)
    realm.write_keytab(more, "host/localhost")
    sendooway = run(f"krb5Keytab = {more}")
    ticket = realm.log_in("alice", "alice-secret")
    assert ask(sendooway, ticket, service="host")[0] == 535
    sendooway.wait_for_log("auth-failure", "the ticket is for host/localhost@EXAMPLE.TEST, not for smtp/HOST")
    assert ask(sendooway, ticket, service="imap")[0] == 535
    sendooway.wait_for_log("auth-failure", "not found in keytab", "kadmin ktadd")


@pytest.mark.parametrize("initial", [b"=", b"Z2FyYmFnZQ==", b"YIIB"])
def test_what_is_no_token_is_refused_like_a_wrong_password(
    run: Run, alice: User, realm: Realm, connect: Connect, initial: bytes
) -> None:
    sendooway = run()
    client = connect(sendooway)
    assert client.docmd("AUTH", f"GSSAPI {initial.decode()}") == (535, b"5.7.8 Authentication failed")
    sendooway.wait_for_log("auth-failure", "mech=GSSAPI", "reason=")
    assert client.docmd("AUTH", "GSSAPI") == (334, b"")
    assert client.docmd("*")[0] == 501
    client.login(alice.name, alice.password)


def test_a_token_of_12288_octets_of_base64_is_read(run: Run, alice: User, realm: Realm, connect: Connect) -> None:
    client = connect(run())
    assert client.docmd("AUTH", "GSSAPI")[0] == 334
    assert client.docmd("A" * 12288)[0] == 535
    assert client.docmd("AUTH", "GSSAPI " + "A" * 12272)[0] == 535


def test_check_logs_in_with_the_tickets_of_whoever_asks(
    realm: Realm, realm_postfix: Postfix, certificates: Certificates, tmp_path: Path
) -> None:
    conf = tmp_path / "conf"
    conf.touch(0o600)
    conf.write_text(
        f"sslCA = {certificates.authority}\n"
        f"smarthostMapping = direct:alice@example.test localhost {realm_postfix.port} - - tls,gssapi\n"
    )

    def check(environment: dict[str, str]) -> tuple[int, dict[str, str]]:
        done = subprocess.run(
            command("check", "--json", "-c", conf), capture_output=True, env={**os.environ, **environment}, timeout=120
        )
        (report,) = json.loads(done.stdout)
        return done.returncode, report["results"]["login"]

    assert check(realm.log_in("alice", "alice-secret")) == (0, {"verdict": "good", "text": "GSSAPI", "details": None})
    status, login = check(realm.environment(tmp_path / "no-tickets"))
    assert (status, login["verdict"]) == (1, "bad")
    assert "kinit" in login["details"]
