"""Dovecot's submission server as a smarthost: it passes each mail on to the server behind it, here the mailbox."""

import shutil
from pathlib import Path

from servers.smarthost import PASSWORD, USERNAME, Smarthost, Unavailable

_CONFIGURATION = """\
base_dir = {folder}/run
state_dir = {folder}/state
log_path = {folder}/log
protocols = submission
listen = 127.0.0.1
hostname = dovecot.test
ssl = required
ssl_cert = <{certificate}
ssl_key = <{key}
auth_mechanisms = plain login cram-md5
passdb {{
  driver = passwd-file
  args = {folder}/logins
}}
userdb {{
  driver = static
  args = uid=dovenull gid=dovenull home={folder}/home
}}
mail_location = maildir:~/Mail
first_valid_uid = 1
submission_relay_host = 127.0.0.1
submission_relay_port = {mailbox}
submission_max_mail_size = 50M
service submission-login {{
  inet_listener submission {{
    port = {port}
  }}
}}
"""


class Dovecot(Smarthost):
    name = "dovecot"

    def prepare(self) -> list[str]:
        if not Path("/usr/lib/dovecot/submission").exists():
            raise Unavailable("not installed: dovecot-submissiond")
        for name in ("state", "home"):
            (self.folder / name).mkdir()
        shutil.chown(self.folder / "home", "dovenull", "dovenull")
        (self.folder / "logins").write_text(f"{USERNAME}:{{PLAIN}}{PASSWORD}\n")
        configuration = self.folder / "dovecot.conf"
        configuration.write_text(
            _CONFIGURATION.format(
                certificate=self.certificate.certificate,
                key=self.certificate.key,
                folder=self.folder,
                port=self.port,
                mailbox=self.mailbox.port,
            )
        )
        return ["dovecot", "-F", "-c", str(configuration)]
