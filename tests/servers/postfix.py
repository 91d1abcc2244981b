"""Postfix as a smarthost: the real program, with folders, ports and accounts of its own.

It asks for STARTTLS (or speaks TLS at once on its second port) and for a login, checked by Cyrus SASL with PLAIN,
LOGIN and CRAM-MD5, and lets each login send under its own addresses only. In a realm it takes tickets too,
for the same rule. Every mail goes to a Mailbox.
It needs root, and does not touch a Postfix of the machine.

What happens to a mail here: one Received field is put in front of it, nothing else is changed.
"""

import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from servers.certificates import Certificate
from servers.mailbox import Delivery, Mailbox
from servers.processes import accepts, free_port, has_ipv6, terminate, wait_until
from servers.realm import Realm

DOMAIN = "postfix.test"

# Each process of Postfix that a smarthost needs, none of them chrooted.
MASTER_CF = """\
{submission}
{submissions}
postlog   unix-dgram n - n - 1 postlogd
pickup    unix n - n 60 1 pickup
cleanup   unix n - n - 0 cleanup
qmgr      unix n - n 300 1 qmgr
tlsmgr    unix - - n 1000? 1 tlsmgr
rewrite   unix - - n - - trivial-rewrite
bounce    unix - - n - 0 bounce
defer     unix - - n - 0 bounce
trace     unix - - n - 0 bounce
verify    unix - - n - 1 verify
flush     unix n - n 1000? 0 flush
proxymap  unix - - n - - proxymap
lmtp      unix - - n - - lmtp
error     unix - - n - - error
retry     unix - - n - - error
discard   unix - - n - - discard
anvil     unix - - n - 1 anvil
scache    unix - - n - 1 scache
"""

MAIN_CF = """\
compatibility_level = 3.6
queue_directory = {folder}/queue
data_directory = {folder}/data
mail_owner = postfix
setgid_group = postdrop
maillog_file = {folder}/log
maillog_file_prefixes = {folder}
myhostname = {domain}
inet_interfaces = loopback-only
inet_protocols = all
mydestination =
local_recipient_maps =
local_transport = error:nothing is local here
alias_maps =
alias_database =
mynetworks =
default_transport = lmtp:unix:{folder}/mailbox
relay_transport = lmtp:unix:{folder}/mailbox
smtp_dns_support_level = disabled
default_process_limit = 50
message_size_limit = 30000000
mailbox_size_limit = 0
queue_minfree = 0

smtpd_tls_security_level = encrypt
smtpd_tls_cert_file = {certificate}
smtpd_tls_key_file = {key}
smtpd_tls_auth_only = yes
smtpd_tls_loglevel = 1
smtpd_sasl_auth_enable = yes
smtpd_sasl_type = cyrus
cyrus_sasl_config_path = {folder}/etc/sasl
smtpd_sasl_security_options = noanonymous
smtpd_sender_login_maps = inline:{{ {logins} }}
smtpd_sender_restrictions = reject_sender_login_mismatch
smtpd_relay_restrictions = permit_sasl_authenticated, reject

# What is needed to pass a message on octet for octet.
local_header_rewrite_clients =
message_drop_headers =
lmtp_line_length_limit = 0
smtp_line_length_limit = 0
disable_mime_output_conversion = yes
{more}
"""

SMTPD_CONF = """\
pwcheck_method: auxprop
auxprop_plugin: sasldb
sasldb_path: {folder}/sasldb
mech_list: PLAIN LOGIN CRAM-MD5{gssapi}
"""


def why_not() -> str:
    """Why Postfix cannot be started here; empty where it can."""
    if os.geteuid() != 0:
        return "starting Postfix needs root"
    missing = [name for name in ("postfix", "saslpasswd2") if not shutil.which(name, path=_PATH)]
    return f"not installed: {', '.join(missing)}" if missing else ""


_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True)
class Tickets:
    """Postfix as a service of a realm, with its keytab, and the principal that may send as each address."""

    realm: Realm
    keytab: Path
    senders: Mapping[str, str]


@dataclass(frozen=True)
class PostfixAccount:
    """A login at Postfix, and the addresses that it may send as."""

    username: str
    password: str
    addresses: tuple[str, ...]


class Postfix:
    """`port` is for STARTTLS, `smtps_port` for implicit TLS, on 127.0.0.1 and, where there is IPv6, ::1.

    `folder` must be empty, and reachable (mode 0755 all the way) for the user postfix.
    """

    def __init__(
        self,
        folder: Path,
        certificate: Certificate,
        accounts: Mapping[str, PostfixAccount],
        tickets: Tickets | None = None,
    ) -> None:
        self.folder = folder
        self.port, self.smtps_port = free_port(), free_port()
        self.mailbox = Mailbox(folder / "mailbox")
        self._log = folder / "log"
        self._write_configuration(certificate, accounts, tickets)

    def start(self) -> None:
        self.mailbox.start()
        self._process = subprocess.Popen(
            ["postfix", "-c", str(self.folder / "etc"), "start-fg"],
            env={"PATH": _PATH},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        wait_until(self._is_ready, f"Postfix accepts (see {self._log})")

    def stop(self) -> None:
        """End every process that `start` began."""
        terminate(self._process)
        self.mailbox.stop()

    def log(self) -> str:
        return self._log.read_text() if self._log.exists() else ""

    def take(self, recipient: str) -> tuple[str, Delivery]:
        """The one mail to `recipient`, waited for, and the login that it was sent with.

        Postfix's own Received field is taken off the content.
        """
        mail = self.mailbox.take(recipient)
        field, content = _split_first_field(mail.content)
        queue_id = re.search(rb"\bid ([0-9A-Za-z]+)", field)
        assert queue_id, f"Postfix's Received field has no id: {field!r}"
        return self._login(queue_id[1].decode()), replace(mail, content=content)

    def _login(self, queue_id: str) -> str:
        pattern = rf": {queue_id}: client=.*, sasl_method=\S+, sasl_username=(\S+?)(@{DOMAIN})?$"
        wait_until(lambda: re.search(pattern, self.log(), re.MULTILINE), f"the login of {queue_id} in the log")
        found = re.search(pattern, self.log(), re.MULTILINE)
        assert found
        return found[1]

    def _is_ready(self) -> bool:
        assert self._process.poll() is None, self.log()
        return accepts(self.port) and accepts(self.smtps_port)

    def _write_configuration(
        self, certificate: Certificate, accounts: Mapping[str, PostfixAccount], tickets: Tickets | None
    ) -> None:
        for name in ("etc", "etc/sasl", "queue", "data"):
            (self.folder / name).mkdir()
        shutil.chown(self.folder / "data", "postfix")
        hosts = ["127.0.0.1", "[::1]"] if has_ipv6() else ["127.0.0.1"]
        owners = [
            (address, f"{account.username}@{DOMAIN}") for account in accounts.values() for address in account.addresses
        ]
        owners += tickets.senders.items() if tickets else ()
        logins = " ".join(f"{{ {address} = {owner} }}" for address, owner in owners)
        (self.folder / "etc/main.cf").write_text(
            MAIN_CF.format(
                folder=self.folder,
                domain=DOMAIN,
                certificate=certificate.certificate,
                key=certificate.key,
                logins=logins,
                more=self._join(tickets) if tickets else f"smtpd_sasl_local_domain = {DOMAIN}",
            )
        )
        (self.folder / "etc/master.cf").write_text(
            MASTER_CF.format(
                submission="\n".join(f"{host}:{self.port} inet n - n - - smtpd" for host in hosts),
                submissions="\n".join(
                    f"{host}:{self.smtps_port} inet n - n - - smtpd -o smtpd_tls_wrappermode=yes" for host in hosts
                ),
            )
        )
        gssapi = f" GSSAPI\nkeytab: {self.folder}/smtp.keytab" if tickets else ""
        (self.folder / "etc/sasl/smtpd.conf").write_text(SMTPD_CONF.format(folder=self.folder, gssapi=gssapi))
        for account in accounts.values():
            subprocess.run(
                ["saslpasswd2", "-p", "-c", "-f", self.folder / "sasldb", "-u", DOMAIN, account.username],
                input=account.password.encode(),
                env={"PATH": _PATH},
                check=True,
            )
        if accounts:
            shutil.chown(self.folder / "sasldb", "postfix")

    def _join(self, tickets: Tickets) -> str:
        """More lines of main.cf. The keys are copied: to write new ones would make the old ones stale."""
        shutil.copy(tickets.keytab, self.folder / "smtp.keytab")
        shutil.chown(self.folder / "smtp.keytab", "postfix")
        # Postfix would take keys for its own name only, and everybody connects to localhost here.
        configuration = tickets.realm.configure("postfix", "ignore_acceptor_hostname = true")
        return (
            # What Cyrus takes off the principal, Postfix puts back.
            f"smtpd_sasl_local_domain = {tickets.realm.name}\n"
            f"import_environment = MAIL_CONFIG KRB5_CONFIG={configuration} KRB5_KTNAME={self.folder}/smtp.keytab"
        )


def _split_first_field(content: bytes) -> tuple[bytes, bytes]:
    """The first header field with its continuation lines, and what follows it."""
    end = re.search(rb"\r\n(?![ \t])", content)
    assert end, "no header"
    return content[: end.end()], content[end.end() :]
