"""The parsers alone: for any octets they give a value or the one error that their docstrings name, and in linear time.

A parser here takes octets and raises nothing: it catches what is documented, so that whatever else comes out is a
defect. Texts are decoded as the program does it, UTF-8 with `surrogateescape`, so that every octet reaches the parser.

Sources of accounts are taken from the program's own table: a new one is fuzzed from the day it is in it.
"""

from collections.abc import Callable
from ipaddress import ip_address
from random import Random
from time import thread_time

from fuzz.oracle import require

from sendooway.accounts import lookup
from sendooway.accounts.account import AccountsError, NoAccount
from sendooway.accounts.user_file import UserFiles
from sendooway.auth.identity import Identity
from sendooway.config import ConfigurationError, Mapping, UserSettings, keywords
from sendooway.net import proxy_protocol
from sendooway.origin import Origin
from sendooway.privsep import messages
from sendooway.secret import Secret
from sendooway.smtp import command
from sendooway.smtp.capabilities import Capabilities
from sendooway.smtp.capabilities import parse as parse_capabilities
from sendooway.smtp.command import CommandError
from sendooway.smtp.parameters import adapt_mail, adapt_rcpt
from sendooway.smtp.reply import Reply, ReplyError, ReplyReader

SIZE = 1 << 20  # octets, the most that a file may have
SECONDS = 1.0  # of CPU time for that

ALICE = Identity("alice", 1000, 1000, "/home/alice")


def _text(octets: bytes) -> str:
    return octets.decode("utf-8", "surrogateescape")


def _configuration(octets: bytes) -> None:
    text = _text(octets)
    try:
        parsed = keywords.parse(text, "sendooway.conf", "host.test")
    except ConfigurationError as error:
        require("\n" not in str(error), "an error is one line", str(error))
        return
    redacted = keywords.parse(keywords.redact(text), "sendooway.conf", "host.test")
    require(redacted.configuration == parsed.configuration, "without its secrets it means something else")


def _user_include(octets: bytes) -> None:
    text = _text(octets)
    try:
        keywords.parse_user_include(text, "file", UserSettings("host.test"))
    except ConfigurationError as error:
        _check_message(str(error))


class _OneText(UserFiles):
    """A user whose files all hold this text."""

    def __init__(self, text: str) -> None:
        super().__init__(ALICE.uid)
        self._text = text

    def read(self, path: str) -> str:
        return self._text

    def names(self, folder: str, wanted: Callable[[str], bool]) -> tuple[str, ...]:
        return tuple(filter(wanted, ("getmailrc", "file")))


def _source(name: str) -> Callable[[bytes], None]:
    """Both what stands in the mapping and what stands in the file that it names."""

    def look_up(argument: bytes, sender: str, text: str) -> str:
        """The words of the error, if there is one."""
        mapping = Mapping(name, Secret(argument), Origin("sendooway.conf", 1))
        try:
            lookup.look_up(sender, [mapping], ALICE, _OneText(text), None)
        except (NoAccount, AccountsError) as error:
            return str(error)
        return ""

    def parse(octets: bytes) -> None:
        text = _text(octets)
        _check_message(look_up(b"/home/alice/file", "alice@moon.test", text))
        # Of a mapping, only what cannot be a password is quoted: the path of a file.
        message = look_up(octets, "", text)
        require(name != "direct" or "s3cret-" not in message, "an error must not quote a password", message)

    return parse


def _check_message(message: str) -> None:
    require("\n" not in message and "\0" not in message, "an error is one line", message)
    require("s3cret-" not in message, "an error must not quote a user's file", message)


def _message(octets: bytes) -> None:
    """What comes out goes in again."""
    try:
        message = messages.parse(octets, frozenset(messages.MESSAGES))
    except messages.ProtocolError as error:
        require(len(str(error)) < 100, "the error quotes the message", str(error))
        return
    try:
        again = messages.format(message)
    except messages.ProtocolError:
        return  # longer than it came, as in base64 with what is not ASCII
    require(messages.parse(again, frozenset(messages.MESSAGES)) == message, "parse does not undo format", octets)


def _reply(octets: bytes) -> None:
    reader = ReplyReader()
    reader.receive(octets)
    try:
        while (reply := reader.next_reply()) is not None:
            require(200 <= reply.code < 600, "no such code", reply)
            offers = parse_capabilities(reply)
            require(offers.size_limit is None or offers.size_limit > 0, "no such limit", reply)
            require(len(offers.mechanisms) <= 64, "too many mechanisms", offers)
    except ReplyError:
        return


_OFFERED = ("SIZE", "8BITMIME", "SMTPUTF8", "DSN", "AUTH", "REQUIRETLS", "DELIVERBY", "FUTURERELEASE", "MT-PRIORITY")


def _command(octets: bytes) -> None:
    """What goes on to a smarthost is one line, and says the same when it is read again."""
    for line in octets.split(b"\r\n"):
        try:
            parsed = command.parse(line)
            match parsed.verb:
                case "MAIL":
                    mail = command.parse_mail(parsed.argument)
                    formatted = command.format_mail(mail)
                    again = command.parse_mail(command.parse(formatted[:-2]).argument)
                    adapted = adapt_mail(
                        mail,
                        Capabilities(dict.fromkeys(_OFFERED, "9")),
                        eight_bit_needed=True,
                        size_limit=None,
                        added=0,
                        verified_tls=True,
                    )
                    require(isinstance(adapted, Reply) or adapted.address == mail.address, "another sender", line)
                case "RCPT":
                    mail = command.parse_rcpt(parsed.argument)
                    formatted = command.format_rcpt(mail)
                    again = command.parse_rcpt(command.parse(formatted[:-2]).argument)
                    adapt_rcpt(mail, Capabilities(dict.fromkeys(_OFFERED, "")), utf8=True)
                case "BDAT":
                    chunk = command.parse_bdat(parsed.argument)
                    require(
                        command.parse_bdat(command.format_bdat(chunk)[5:-2].decode()) == chunk, "another chunk", line
                    )
                    continue
                case _:
                    continue
        except CommandError as error:
            require(500 <= error.code < 600, "a fault is for good", error)
            continue
        require(formatted.count(b"\r") == formatted.count(b"\n") == 1, "more than a line", formatted)
        require(again == mail, "parse does not undo format", line, formatted)


def _proxy_header(octets: bytes) -> None:
    """Nothing is said before there is enough, and nothing else afterwards."""
    try:
        header = proxy_protocol.parse(octets)
    except proxy_protocol.HeaderError as error:
        require(len(str(error)) < 80, "the error quotes the header", str(error))
        return
    if header is None:
        require(len(octets) < proxy_protocol.LIMIT, "it waits for more than a header can have", octets)
        return
    require(header.length <= len(octets), "a header longer than what came", header)
    require(header.client is None or str(ip_address(header.client)) == header.client, "no address", header)
    require(proxy_protocol.parse(octets[: header.length]) == header, "it read on behind the header", octets)
    require(proxy_protocol.parse(octets[: header.length - 1]) is None, "it did not need all of it", octets)


PARSERS: dict[str, Callable[[bytes], None]] = {
    "configuration": _configuration,
    "user-include": _user_include,
    **{f"source-{name}": _source(name) for name in lookup.SOURCES},
    "message": _message,
    "reply": _reply,
    "command": _command,
    "proxy-header": _proxy_header,
}

TOKENS = (
    *(b"\n", b"\r\n", b" ", b"\t", b"#", b'"', b"'", b"\\", b"=", b":", b",", b";", b"[", b"]", b"{", b"}", b"%h"),
    *(b"%u", b"%", b"\0", b"\x85", b"\xe2\x80\xa8", b"\xff", b"\xef\xbb\xbf", b"-1", b"99999999999999999999", b"*"),
    *(b"*@", b"<>", b"#sendooway:", b"#sendooway:address ", b"poll ", b"user ", b"pass ", b"[sender]\n", b"true"),
    *(b"null", b"1e9", b"yes", b"no", b"smarthostMapping = ", b"listen = ", b"direct:", b"\xd9\xa1", b"\\u0000"),
)

_CONFIGURATION = (
    b"localname = host.test\nsslCert = /c\nlisten = 127.0.0.1:587, [::1]:465 tls\nworkers = 2\ntimeout = 20\n"
    b"smarthostMapping = direct:*@moon.test mx.moon.test 587 alice s3cret-1 tls,noCertCheck\n"
    b"smarthostMapping = fetchmail:%h/.fetchmailrc\nextMessageSize = 1000\n  # comment\nvalidUsers = alice, %mail\n"
)
_FETCHMAILRC = (
    b'set daemon 300\ndefaults proto pop3\npoll mail.moon.test via x port 995 user "alice" there with pass "s3cret-2"'
    b' is al here\n  options ssl no keep\n  #sendooway:server "mx.moon.test"\n  #sendooway:port 587\n  #sendooway:tls\n'
    b'  #sendooway:address "alice@moon.test"\n#sendooway:address *\nskip other user b\n#sendooway:noAuth\n'
)
_GETMAILRC = (
    b"[retriever]\ntype = SimplePOP3SSLRetriever\nserver = mail.moon.test\nusername = alice\npassword = s3cret-3\n"
    b"[destination]\ntype = Maildir\npath = ~/Mail/\n[options]\nread_all = false\n"
    b"[sender]\ntype = SimpleSMTPTLSSender\nserver = mx.moon.test\nport = 587\n"
    b"address = alice@moon.test, *@sun.test,\n  <>\n"
)
_OTHER_FILE = (
    b"account moon\nhost mx.moon.test\nport 587\ntls on\nauth plain\nuser alice\npassword s3cret-4\n"
    b"from alice@moon.test\n\nmachine mx.sun.test login alice password s3cret-5\nmacdef init\ncd /\n\n"
    b"[config]\nsmtpserver = mx.moon.test:587\n[moon]\naddress = alice@moon.test\n"
)
_FILES = [_FETCHMAILRC, _GETMAILRC, _OTHER_FILE, b"alice@moon.test mx.moon.test 587 alice s3cret-6 tls,noCertCheck"]
_SEEDS: dict[str, list[bytes]] = {
    "configuration": [_CONFIGURATION],
    "user-include": [_CONFIGURATION],
    "message": [
        messages.format(message)
        for message in (
            messages.AgentWanted("0123abcd", "192.0.2.7"),
            messages.LoginBegin("PLAIN", Secret(b"\0alice\0s3cret-7")),
            messages.LoginBegin("LOGIN", None),
            messages.LoginDone("alice", "host.test", False, True, 3, False),
            messages.AccountFound(1, "file:3", "alice", "mx.moon.test", 587, "starttls", True),
            messages.AccountMissing(("file", "other")),
            messages.SaslBegin(1, ("PLAIN", "LOGIN"), ()),
        )
    ],
    "reply": [b"250-mx\r\n250-PIPELINING\r\n250-SIZE 1000\r\n250 AUTH PLAIN\r\n354 Go\r\n550 5.1.1 No\r\n334 UGF=\r\n"],
    "command": [
        b"MAIL FROM:<alice@moon.test> SIZE=10 BODY=8BITMIME\r\nRCPT TO:<@a,@b:bob@[127.0.0.1]>\r\nEHLO x\r\n",
        b'MAIL FROM: <"a \\" b"@moon.test> AUTH=<>\r\nRCPT TO:<postmaster>\r\nMAIL FROM:<>\r\nAUTH PLAIN AGE=\r\n',
        "MAIL FROM:<jörg@mönd.test> SMTPUTF8 RET=HDRS ENVID=+2B BY=60;R MT-PRIORITY=-3 HOLDFOR=60\r\n".encode(),
        b"RCPT TO:<a@b> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;a+2B@b\r\nBDAT 12 LAST\r\n"
        b"MAIL FROM:<> HOLDUNTIL=2026-12-24T18:00:00Z\r\n",
    ],
    "proxy-header": [
        b"PROXY TCP4 192.0.2.7 203.0.113.1 56324 587\r\nEHLO x\r\n",
        b"PROXY TCP6 2001:db8::7 ::ffff:203.0.113.1 56324 587\r\n",
        b"PROXY UNKNOWN 1 2\r\n",
        b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0EHLO x\r\n",
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x15\xc0\0\2\x07\xcb\0\x71\1\xdc\4\2\x4b\2\0\6a.test\x16\3\1",
        b"\r\n\r\n\0\r\nQUIT\n\x21\x21\0\x24" + b"\x20\1\r\xb8" * 8 + b"\xdc\4\2\x4b",
    ],
}


def seeds(name: str) -> list[bytes]:
    """Inputs that make sense to this parser."""
    return _SEEDS.get(name, _FILES)


def amplify(random: Random, octets: bytes) -> bytes:
    """SIZE octets: a piece of the input again and again, behind what stood before it and in front of the rest."""
    start = random.randint(0, max(0, len(octets) - 1))
    end = start + random.choice((1, 1, 2, 3, 8, 30, 200))
    if random.randrange(2):  # whole lines
        start, end = octets.rfind(b"\n", 0, start) + 1, octets.find(b"\n", end) + 1 or len(octets)
    piece = octets[start:end] or b"x"
    return (octets[:start] + piece * (SIZE // len(piece)) + octets[end:])[:SIZE]


def time(name: str, octets: bytes) -> float:
    """Seconds of CPU time that the parser takes: what else the machine does takes nothing of it."""
    begun = thread_time()
    PARSERS[name](octets)
    return thread_time() - begun
