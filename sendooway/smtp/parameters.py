"""The parameters of MAIL and RCPT: how each is written, and what becomes of it on the way to a smarthost.

A parameter that the smarthost offers is passed on. One that it does not offer is either dropped, where the mail
arrives all the same, or refused at once, where the mail would not be what the client has asked for.
"""

from dataclasses import dataclass

from sendooway.smtp.capabilities import Capabilities
from sendooway.smtp.command import VISIBLE, Envelope, beyond_ascii_and
from sendooway.smtp.regex import compiled
from sendooway.smtp.reply import Reply, reply


@dataclass(frozen=True)
class Parameter:
    """What is known of a parameter: `extension` is the keyword in the reply to EHLO that offers it, `value` a regular
    expression for its whole value, without case, `otherwise` the refusal where it is not offered; None: then it is
    dropped."""

    extension: str
    value: str
    otherwise: Reply | None = None


def _not_offered(extension: str) -> Reply:
    return reply(555, "5.5.4", f"Not possible here, the smarthost does not offer {extension}")


_NO_TLS = reply(550, "5.7.30", "REQUIRETLS is not possible on the way to this smarthost")
_NO_UTF8 = reply(553, "5.6.7", "The smarthost takes no UTF-8 addresses, it does not offer SMTPUTF8")


_XTEXT = r"(?:[!-*,-<>-~]|\+[0-9A-F]{2})+"  # RFC 3461, 4.
_UTF8_XTEXT = rf"(?:{beyond_ascii_and(VISIBLE.replace('+', '').replace('=', ''))}|\+[0-9A-F]{{2}})+"  # RFC 6533, 3.
_ADDRESS_TYPE = r"[A-Z0-9!#$%&'*/?^_`{|}~-]+"
_REPORT = "(?:SUCCESS|FAILURE|DELAY)"
_DATE_TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:\d\d)"  # RFC 3339, 5.6
# Delivered late (N) or, if it is late, returned (R): then it has to be some time ahead (RFC 2852, 4.).
_DELIVER_BY = r"[+-]?\d{1,9};NT?|\+?(?=0*[1-9])\d{1,9};RT?"

OF_MAIL = {
    "SIZE": Parameter("SIZE", r"\d{1,20}"),  # RFC 1870
    "BODY": Parameter("8BITMIME", "7BIT|8BITMIME|BINARYMIME"),  # RFC 6152, RFC 3030
    "SMTPUTF8": Parameter("SMTPUTF8", ""),  # RFC 6531
    # Who wrote the message (RFC 4954, 5.). We do not know whether that is true, and say `<>` then.
    "AUTH": Parameter("AUTH", rf"<>|{_UTF8_XTEXT}"),
    "RET": Parameter("DSN", "FULL|HDRS"),  # RFC 3461, 4.3
    "ENVID": Parameter("DSN", rf"(?=.{{1,100}}\Z){_XTEXT}"),  # RFC 3461, 4.4
    "HOLDFOR": Parameter("FUTURERELEASE", "[1-9][0-9]{0,8}", _not_offered("FUTURERELEASE")),  # RFC 4865
    "HOLDUNTIL": Parameter("FUTURERELEASE", _DATE_TIME, _not_offered("FUTURERELEASE")),
    "BY": Parameter("DELIVERBY", _DELIVER_BY, _not_offered("DELIVERBY")),  # RFC 2852
    "MT-PRIORITY": Parameter("MT-PRIORITY", "0|-?[1-9]", _not_offered("MT-PRIORITY")),  # RFC 6710
    "REQUIRETLS": Parameter("REQUIRETLS", "", _NO_TLS),  # RFC 8689
}
OF_RCPT = {
    "NOTIFY": Parameter("DSN", rf"NEVER|{_REPORT}(?:,{_REPORT})*"),  # RFC 3461, 4.1
    "ORCPT": Parameter("DSN", rf"(?=.{{1,500}}\Z){_ADDRESS_TYPE};{_UTF8_XTEXT}"),  # RFC 3461, 4.2
}


def adapt_mail(
    mail: Envelope,
    offers: Capabilities,
    *,
    eight_bit_needed: bool,
    size_limit: int | None,
    added: int,
    verified_tls: bool,
) -> Envelope | Reply:
    """MAIL as it goes to this smarthost, or the reply that refuses it.

    `eight_bit_needed`: a message declared as 8-bit goes only to a smarthost with 8BITMIME (RFC 6152). `size_limit` is
    our own in octets, None where there is none; `added` is how many octets we put in front of the message.
    `verified_tls`: the smarthost's connection is secured, and its certificate was found good.
    """
    asked = mail.parameters
    adapted = _adapt(mail, OF_MAIL, offers)
    if isinstance(adapted, Reply):
        return adapted
    if "REQUIRETLS" in asked and not verified_tls:
        return _NO_TLS
    if not mail.is_ascii and "SMTPUTF8" not in adapted.parameters:
        return _NO_UTF8
    if "HOLDFOR" in asked and "HOLDUNTIL" in asked:
        return reply(501, "5.5.4", "HOLDFOR and HOLDUNTIL exclude each other")
    body = asked.get("BODY", "").upper()
    if body == "BINARYMIME":
        return reply(555, "5.6.1", "BINARYMIME is not offered")
    if body == "8BITMIME" and "BODY" not in adapted.parameters and eight_bit_needed:
        return reply(554, "5.6.3", "The smarthost takes no 8-bit messages")
    parameters = dict(adapted.parameters)
    if "AUTH" in parameters:
        parameters["AUTH"] = "<>"
    if "SIZE" in asked:
        size = int(asked["SIZE"])
        if size_limit is not None and size > size_limit:
            return reply(552, "5.3.4", f"Message too large, the limit is {size_limit} octets")
        if offers.size_limit is not None and size + added > offers.size_limit:
            limit = offers.size_limit
            return reply(552, "5.3.4", f"Message too large for the smarthost, its limit is {limit} octets")
        if "SIZE" in parameters:
            parameters["SIZE"] = str(size + added)
    return Envelope(mail.address, parameters)


def adapt_rcpt(rcpt: Envelope, offers: Capabilities, *, utf8: bool) -> Envelope | Reply:
    """RCPT as it goes to a smarthost, or the reply that refuses it. `utf8`: MAIL went there with SMTPUTF8."""
    if not rcpt.is_ascii and not utf8:
        if "SMTPUTF8" in offers.extensions:
            return reply(553, "5.6.7", "A UTF-8 address needs SMTPUTF8 behind MAIL")
        return _NO_UTF8
    return _adapt(rcpt, OF_RCPT, offers)


def dropped(asked: Envelope, adapted: Envelope) -> list[str]:
    """The keywords of the parameters in `asked` that are missing in `adapted`, and whose lack makes a difference."""
    return [
        keyword
        for keyword, value in asked.parameters.items()
        # The size of a message, and that it has no 8-bit octets, ask for nothing.
        if keyword not in adapted.parameters and keyword != "SIZE" and value.upper() != "7BIT"
    ]


def _adapt(envelope: Envelope, known: dict[str, Parameter], offers: Capabilities) -> Envelope | Reply:
    parameters: dict[str, str] = {}
    refusal: Reply | None = None
    for keyword, value in envelope.parameters.items():
        parameter = known.get(keyword)
        if parameter is None:
            return reply(555, "5.5.4", f"Unknown parameter {keyword}")
        if not compiled(f"(?ai:{parameter.value})").fullmatch(value):
            return reply(501, "5.5.4", f"Bad value of {keyword}")
        if parameter.extension in offers.extensions:
            parameters[keyword] = value
        else:
            # Returned when all of them are known to be right: what is wrong for every smarthost comes first.
            refusal = refusal or parameter.otherwise
    return refusal or Envelope(envelope.address, parameters)
