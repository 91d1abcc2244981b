"""OpenSMTPD as a smarthost: Debian's package, unpacked and not installed, since it conflicts with Postfix.

It is the one smarthost without TLS: Debian 12 links version 6.8 against OpenSSL 3, with which none of its handshakes
succeeds (OpenSMTPD's issue 1171: the private key stays in another process by means that OpenSSL 3 ignores). And without
TLS it offers no login.
"""

from servers import cell
from servers.smarthost import Smarthost, Unavailable

_CONFIGURATION = """\
smtp max-message-size 50M
listen on 127.0.0.1 port {port} hostname opensmtpd.test
action "mailbox" relay host "lmtp://127.0.0.1:{mailbox}"
match from any for any action "mailbox"
"""


class OpenSmtpd(Smarthost):
    name = "opensmtpd"
    secure = False

    def prepare(self) -> list[str]:
        if reason := cell.why_not():
            raise Unavailable(reason)
        try:
            package = cell.unpack("opensmtpd")
        except OSError as error:
            raise Unavailable(str(error)) from None
        configuration = self.folder / "smtpd.conf"
        configuration.write_text(_CONFIGURATION.format(port=self.port, mailbox=self.mailbox.port))
        setup = (
            f"cp {package}/usr/sbin/smtpd /run\n"
            "mkdir -p /var/lib/opensmtpd/empty /var/spool/smtpd\n"
            "chmod 711 /var/spool/smtpd"
        )
        return cell.command(self.folder, ("opensmtpd", "opensmtpq"), setup, "/run/smtpd", "-d", "-f", configuration)
