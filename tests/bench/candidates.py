"""What is measured: Sendooway with its defaults, the same without kept connections, Dovecot, and nothing in between."""

import contextlib
import os
import pwd
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from bench.load import SENDER, Server
from bench.smarthost import PASSWORD, USERNAME, Smarthost
from servers.certificates import Certificates
from servers.processes import accepts, free_port, terminate, wait_until
from servers.program import Sendooway
from servers.users import User

_SENDOOWAY = """\
localname = proxy.test
authBackend = {backend}
mailerEncryption = required
maxSessionsPerUser = 100
sslCA = {authority}
sslCert = {certificate}
sslKey = {key}
smarthostMapping = direct:{sender} localhost {port} {username} {password} tls
"""
# Processes serve one connection after the other, and some wait for the next: what its manual calls high performance.
_DOVECOT = """\
base_dir = {folder}/run
state_dir = {folder}/state
log_path = {folder}/log
protocols = submission
listen = 127.0.0.1
hostname = proxy.test
ssl = required
ssl_cert = <{certificate}
ssl_key = <{key}
ssl_client_ca_file = {authority}
auth_mechanisms = plain
disable_plaintext_auth = yes
mail_location = maildir:{folder}/mail/%u
mail_max_userip_connections = 0
passdb {{
  driver = pam
  args = sendooway
}}
userdb {{
  driver = static
  args = uid={user} gid={user} home={folder}/mail/%u
}}
submission_max_mail_size = 0
submission_relay_host = localhost
submission_relay_port = {port}
submission_relay_user = {username}
submission_relay_password = {password}
submission_relay_ssl = starttls
submission_relay_ssl_verify = yes
service submission-login {{
  inet_listener submission {{
    port = {listen}
  }}
  service_count = 0
  process_min_avail = 2
}}
service submission {{
  service_count = 10000
}}
"""


class Candidates:
    """Starts them all below `folder`, which every user of the machine can enter. `missing` says who is not there, and
    why. PAM checks the password of `user`; None: whoever runs this logs in, and no password is checked."""

    def __init__(self, folder: Path, certificates: Certificates, smarthost: Smarthost, user: User | None) -> None:
        self.missing: list[str] = []
        self._folder = folder
        self._smarthost = smarthost
        self._user = user
        self._values = {
            "authority": certificates.authority,
            "certificate": certificates.good.certificate,
            "key": certificates.good.key,
            "sender": SENDER,
            "port": smarthost.port,
            "username": USERNAME,
            "password": PASSWORD,
        }

    @contextlib.contextmanager
    def running(self) -> Iterator[list[Server]]:
        found = [Server("direct", self._smarthost.port, USERNAME, PASSWORD, None)]
        with contextlib.ExitStack() as stack:
            if self._user is None:
                self.missing.append("passwords checked by PAM, and Dovecot, which wants them: they take root")
                backend, login = "none", (pwd.getpwuid(os.getuid()).pw_name, "any")
            else:
                backend, login = "PAM", (self._user.name, self._user.password)
                if Path("/usr/lib/dovecot/submission").exists():
                    found.append(stack.enter_context(self._dovecot(*login)))
                else:
                    self.missing.append("Dovecot: not installed: dovecot-submissiond")
            for name, more in (("Sendooway", ""), ("the same, smarthostIdle = 0", "smarthostIdle = 0\n")):
                folder = self._folder / f"sendooway-{len(found)}"
                folder.mkdir(mode=0o755)
                configuration = _SENDOOWAY.format(backend=backend, **self._values) + more
                server = stack.enter_context(Sendooway(folder, configuration))
                found.append(Server(name, server.port, *login, server.process.pid))
            yield found

    @contextlib.contextmanager
    def _dovecot(self, user: str, password: str) -> Iterator[Server]:
        folder = self._folder / "dovecot"
        for part in ("state", "mail"):
            (folder / part).mkdir(parents=True, mode=0o755)
        shutil.chown(folder / "mail", user, user)
        listen = free_port()
        configuration = folder / "dovecot.conf"
        configuration.write_text(_DOVECOT.format(folder=folder, user=user, listen=listen, **self._values))
        with (folder / "output").open("wb") as output:
            process = subprocess.Popen(
                ["dovecot", "-F", "-c", str(configuration)],
                env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        try:
            wait_until(lambda: accepts(listen), f"Dovecot accepts (see {folder})", 30)
            yield Server("Dovecot, tuned", listen, user, password, process.pid)
        finally:
            terminate(process)
