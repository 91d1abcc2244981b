"""The smarthosts of the matrix: those of tests/servers, and two that are wrapped to look like them."""

import logging
import ssl
from pathlib import Path

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session
from servers import postfix as postfix_
from servers.certificates import Certificate
from servers.dovecot import Dovecot
from servers.exim import Exim
from servers.mailbox import Delivery
from servers.opensmtpd import OpenSmtpd
from servers.postfix import PostfixAccount
from servers.smarthost import PASSWORD, USERNAME, Smarthost, Unavailable

# aiosmtpd warns at each login of a deprecated attribute that it sets itself.
logging.getLogger("mail.log").setLevel(logging.ERROR)


class Postfix(Smarthost):
    name = "postfix"

    def start(self) -> None:
        if reason := postfix_.why_not():
            raise Unavailable(reason)
        accounts = {"any": PostfixAccount(USERNAME, PASSWORD, ("@postfix.test",))}
        self._postfix = postfix_.Postfix(self.folder, self.certificate, accounts)
        self._postfix.start()
        self.port = self._postfix.port

    def stop(self) -> None:
        self._postfix.stop()

    def prepare(self) -> list[str]:
        raise AssertionError("start does it all")

    def take(self, recipient: str) -> Delivery:
        return self._postfix.mailbox.take(recipient)


class _Smtp(SMTP):
    # It refuses longer lines of a message, as few servers do.
    line_length_limit = 1 << 20


class _Controller(Controller):
    def factory(self) -> SMTP:
        return _Smtp(self.handler, **self.SMTP_kwargs)


class Aiosmtpd(Smarthost):
    """It runs in this process, and what it has accepted is the delivery."""

    name = "aiosmtpd"

    def start(self) -> None:
        self._deliveries: list[Delivery] = []
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(self.certificate.certificate, self.certificate.key)
        self._controller = _Controller(
            self,
            hostname="127.0.0.1",
            port=self.port,
            server_hostname="aiosmtpd.test",
            tls_context=context,
            require_starttls=True,
            auth_required=True,
            authenticator=self._authenticate,
        )
        self._controller.start()

    def stop(self) -> None:
        self._controller.stop()

    def prepare(self) -> list[str]:
        raise AssertionError("start does it all")

    def take(self, recipient: str) -> Delivery:
        (found,) = [mail for mail in self._deliveries if recipient in mail.recipients]
        return found

    def _authenticate(
        self, server: object, session: Session, envelope: Envelope, mechanism: str, credentials: LoginPassword
    ) -> AuthResult:
        return AuthResult(success=credentials == LoginPassword(USERNAME.encode(), PASSWORD.encode()))

    async def handle_DATA(self, server: object, session: Session, envelope: Envelope) -> str:
        content = envelope.original_content
        assert content is not None
        self._deliveries.append(Delivery(envelope.mail_from or "", tuple(envelope.rcpt_tos), content))
        return "250 2.0.0 Taken"


SMARTHOSTS: tuple[type[Smarthost], ...] = (Postfix, Exim, OpenSmtpd, Aiosmtpd, Dovecot)


def make(kind: type[Smarthost], folder: Path, certificate: Certificate) -> Smarthost:
    """Started. Raises Unavailable."""
    place = folder / kind.name
    place.mkdir()
    smarthost = kind(place, certificate)
    smarthost.start()
    return smarthost
