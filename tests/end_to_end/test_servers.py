"""The yardsticks: what the other tests measure with must itself be straight."""

import smtplib
import ssl

import pytest
from end_to_end.messages import BODIES, HEADER, message
from servers.certificates import Certificates
from servers.postfix import Postfix
from servers.processes import PATIENCE
from servers.scripted import Fault, ScriptedSmarthost, Stage

pytestmark = pytest.mark.slow

CONTENT = HEADER + b"Hello.\r\n.\r\n"


@pytest.mark.parametrize("body", BODIES)
def test_postfix_delivers_the_octets_that_it_is_sent(body: str, postfix: Postfix, tls: ssl.SSLContext) -> None:
    with smtplib.SMTP("localhost", postfix.port, timeout=PATIENCE) as client:
        client.starttls(context=tls)
        client.login("alice-moon", "moon secret")
        client.sendmail("alice@moon.test", ["direct@mars.test"], message(body), mail_options=["BODY=8BITMIME"])
    login, delivery = postfix.take("direct@mars.test")
    same = delivery.content == message(body)
    assert same
    assert login == "alice-moon"


def test_postfix_refuses_the_address_of_another_login(postfix: Postfix, tls: ssl.SSLContext) -> None:
    with smtplib.SMTP_SSL("localhost", postfix.smtps_port, context=tls, timeout=PATIENCE) as client:
        client.login("alice-sun", "sun-s3cret:+")
        with pytest.raises(smtplib.SMTPRecipientsRefused, match="not owned by user alice-sun"):
            client.sendmail("alice@moon.test", ["direct@mars.test"], CONTENT)


def test_the_scripted_smarthost_takes_a_mail(certificates: Certificates, tls: ssl.SSLContext) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificates.good.certificate, certificates.good.key)
    with (
        ScriptedSmarthost(tls=context) as smarthost,
        smtplib.SMTP("localhost", smarthost.port, timeout=PATIENCE) as client,
    ):
        client.starttls(context=tls)
        client.login("alice-moon", "moon secret")
        client.sendmail("alice@moon.test", ["bob@mars.test"], CONTENT)
    (mail,) = smarthost.mails
    assert (mail.login, mail.sender, mail.recipients) == ("alice-moon", b"alice@moon.test", (b"bob@mars.test",))
    assert bytes(mail.data) == CONTENT.replace(b"\r\n.\r\n", b"\r\n..\r\n") + b".\r\n"
    assert mail.complete


@pytest.mark.parametrize("fault", [Fault.CLOSE, Fault.RESET])
@pytest.mark.parametrize("stage", [Stage.EHLO, Stage.MAIL, Stage.DATA, Stage.DOT])
def test_the_scripted_smarthost_goes_away_when_told(stage: Stage, fault: Fault) -> None:
    with (
        ScriptedSmarthost(answers={stage: [fault]}) as smarthost,
        smtplib.SMTP("localhost", smarthost.port, timeout=PATIENCE) as client,
        pytest.raises((smtplib.SMTPException, OSError)),
    ):
        client.sendmail("alice@moon.test", ["bob@mars.test"], CONTENT)
