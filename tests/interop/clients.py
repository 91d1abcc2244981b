"""The mail programs of the matrix: how each is told to send a message through a submission server.

Some send a message as it is. Others write its header themselves: for them only the body must arrive as it is. What a
program must be told so that it leaves the message alone stands with it.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from servers.program import ROOT

NODE_MODULES = ROOT / ".venv/node/node_modules"  # build/setup-nodemailer

# What careless programs change: dots at line starts, 8-bit text in UTF-8, blanks at line ends, a long line.
BODY = (
    b"First line\r\n.\r\n..\r\n.dot\r\nfrom the start\r\n\r\n\tGr\xc3\xbc\xc3\x9fe, \xe2\x82\xac 100 % \\n\r\n"
    b"the end = not =3D\r\n"
)
HEADER = (
    b"From: Alice <%(sender)s>\r\nTo: <%(recipient)s>\r\nSubject: octets\r\nDate: Sun, 22 Nov 2026 12:00:00 +0000\r\n"
    b"Message-ID: <%(recipient)s>\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n"
    b"Content-Transfer-Encoding: 8bit\r\n\r\n"
)


@dataclass(frozen=True)
class Submission:
    """One mail that a client program is to send. `folder` is its own; `content` is the message."""

    port: int
    username: str
    password: str
    authority: Path
    sender: str
    recipient: str
    content: bytes
    folder: Path
    implicit: bool = False

    def file(self, name: str, octets: bytes, mode: int = 0o600) -> Path:
        path = self.folder / name
        path.touch(mode=mode)
        path.write_bytes(octets)
        return path

    @property
    def body(self) -> bytes:
        return self.content.partition(b"\r\n\r\n")[2]

    @property
    def lf_body(self) -> bytes:
        return self.body.replace(b"\r\n", b"\n")


@dataclass(frozen=True)
class Run:
    """How a program is started: with what on its standard input, and in what environment beside PATH and HOME."""

    command: list[str]
    stdin: bytes = b""
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Client:
    """A mail program. `whole`: it sends a message as it is given; else it writes the header. `longest_line` is what it
    is given, in octets: longer ones than RFC 5322's 998 are sent as they are by some, encoded by others."""

    name: str
    run: Callable[[Submission], Run]
    whole: bool = True
    longest_line: int = 20_000
    needs: tuple[str, ...] = ()

    def __str__(self) -> str:
        return self.name

    def why_not(self) -> str:
        """Why it cannot be run here; empty where it can."""
        missing = [name for name in self.needs or (self.name,) if not (Path(name).exists() or shutil.which(name))]
        return f"not installed: {', '.join(missing)}" if missing else ""

    def content(self, sender: str, recipient: str) -> bytes:
        """The message that it is given to send, as it goes over the wire but for the dots."""
        names = {b"sender": sender.encode(), b"recipient": recipient.encode()}
        return HEADER % names + BODY + b"z" * self.longest_line + b"\r\n"

    def send(self, submission: Submission) -> None:
        """Raises AssertionError with what the program printed if it failed."""
        run = self.run(submission)
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(submission.folder),
            "LC_ALL": "C.UTF-8",
            **run.environment,
        }
        done = subprocess.run(
            run.command,
            input=run.stdin,
            env=environment,
            cwd=submission.folder,
            capture_output=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, f"{self.name}: {(done.stdout + done.stderr).decode(errors='replace')}"


def _swaks(mail: Submission) -> Run:
    # Told to keep its hands off, it wants the message as it goes over the wire, but for the last CR LF.
    data = mail.file("message", mail.content.replace(b"\r\n.", b"\r\n..") + b".")
    return Run(
        [
            *("swaks", "--server", "localhost", "--port", str(mail.port)),
            *("--tls-on-connect" if mail.implicit else "--tls", "--tls-verify", "--tls-ca-path", str(mail.authority)),
            *("--auth", "LOGIN", "--auth-user", mail.username, "--auth-password", mail.password),
            *("--from", mail.sender, "--to", mail.recipient, "--no-data-fixup", "--data", f"@{data}"),
        ]
    )


def _msmtp(mail: Submission) -> Run:
    password = mail.file("password", mail.password.encode())
    return Run(
        [
            *("msmtp", "--file=/dev/null", "--host=localhost", f"--port={mail.port}"),
            *("--tls=on", f"--tls-starttls={'off' if mail.implicit else 'on'}", f"--tls-trust-file={mail.authority}"),
            *("--auth=plain", f"--user={mail.username}", f"--passwordeval=cat {password}"),
            *(f"--from={mail.sender}", mail.recipient),
        ],
        # It takes the line ends of UNIX.
        mail.content.replace(b"\r\n", b"\n"),
    )


def _curl(mail: Submission) -> Run:
    message = mail.file("message", mail.content)
    return Run(
        [
            *("curl", "--silent", "--show-error", "--cacert", str(mail.authority)),
            *("--url", f"{'smtps' if mail.implicit else 'smtp'}://localhost:{mail.port}"),
            *("--ssl-reqd", "--user", f"{mail.username}:{mail.password}"),
            *("--mail-from", mail.sender, "--mail-rcpt", mail.recipient, "--upload-file", str(message)),
        ]
    )


def _mutt(program: str) -> Callable[[Submission], Run]:
    def run(mail: Submission) -> Run:
        rc = mail.file(
            "muttrc",
            f"""\
set smtp_url="smtp://{mail.username}@localhost:{mail.port}/"
set smtp_pass="{mail.password}"
set smtp_authenticators="plain"
set ssl_starttls=yes
set ssl_force_tls=yes
set ssl_ca_certificates_file="{mail.authority}"
set certificate_file="{mail.folder}/certificates"
set from="{mail.sender}"
set envelope_from_address="{mail.sender}"
set use_envelope_from=yes
set copy=no
set allow_8bit=yes
set charset="utf-8"
set send_charset="utf-8"
set text_flowed=no
""".encode(),
        )
        return Run([program, "-n", "-F", str(rc), "-s", "octets", "--", mail.recipient], mail.lf_body)

    return run


def _s_nail(mail: Submission) -> Run:
    settings = {
        "v15-compat": "yes",
        "mta": f"smtp://{mail.username}:{mail.password}@localhost:{mail.port}",
        "smtp-auth": "plain",
        "smtp-use-starttls": "yes",
        "tls-verify": "strict",
        "tls-ca-file": str(mail.authority),
        "tls-ca-no-defaults": "yes",
        "from": mail.sender,
        "DEAD": "/dev/null",
        "mime-encoding": "8bit",
        "sendcharsets": "utf-8",
        "ttycharset": "utf-8",
    }
    options = [f"-S{key}={value}" for key, value in settings.items()]
    return Run(["s-nail", "-n", *options, "-s", "octets", mail.recipient], mail.lf_body, {"MAILRC": "/dev/null"})


def _git_send_email(mail: Submission) -> Run:
    # It takes what `git format-patch` has made: a mbox line, header and body, with the line ends of UNIX.
    patch = mail.file(
        "0001-octets.patch",
        b"From 0123456789012345678901234567890123456789 Mon Sep 17 00:00:00 2001\n"
        + mail.content.replace(b"\r\n", b"\n"),
    )
    return Run(
        [
            *("git", "send-email", "--smtp-server=localhost", f"--smtp-server-port={mail.port}"),
            *("--smtp-encryption=tls", f"--smtp-ssl-cert-path={mail.authority}", "--smtp-auth=PLAIN"),
            *(f"--smtp-user={mail.username}", f"--smtp-pass={mail.password}"),
            # Were this another address than the header's, the header's would stand in the body.
            *(
                f"--from=Alice <{mail.sender}>",
                f"--to={mail.recipient}",
                "--suppress-cc=all",
                "--confirm=never",
                "--quiet",
            ),
            # It refuses lines of more than 998 octets otherwise, or encodes them.
            *("--no-validate", "--transfer-encoding=8bit", str(patch)),
        ],
        environment={"GIT_CONFIG_NOSYSTEM": "1"},
    )


_NODEMAILER = """\
const fs = require("fs");
const mail = JSON.parse(fs.readFileSync(process.argv[2]));
const transport = require("nodemailer").createTransport({
  host: "localhost", port: mail.port, secure: false, requireTLS: true,
  tls: {ca: fs.readFileSync(mail.authority)},
  auth: {user: mail.username, pass: mail.password},
});
transport.sendMail({
  envelope: {from: mail.sender, to: [mail.recipient]},
  raw: fs.readFileSync(mail.message),
}).then(() => transport.close(), error => { console.error(error); process.exit(1); });
"""


def _nodemailer(mail: Submission) -> Run:
    return Run(
        ["node", str(mail.file("send.js", _NODEMAILER.encode())), str(_as_json(mail))],
        environment={"NODE_PATH": str(NODE_MODULES)},
    )


_NET_SMTP = """\
use strict; use warnings;
use JSON::PP; use Net::SMTP;
sub slurp { open my $file, '<:raw', $_[0] or die "$_[0]: $!"; local $/; return <$file> }
my $mail = decode_json(slurp($ARGV[0]));
my $smtp = Net::SMTP->new('localhost', Port => $mail->{port}, Timeout => 60) or die "no connection: $@";
sub must { my $done = shift; die $smtp->code . ' ' . $smtp->message unless $done }
must($smtp->starttls(SSL_ca_file => $mail->{authority}, SSL_verifycn_name => 'localhost'));
must($smtp->auth($mail->{username}, $mail->{password}));
must($smtp->mail($mail->{sender}));
must($smtp->to($mail->{recipient}));
must($smtp->data);
must($smtp->datasend(slurp($mail->{message})));
must($smtp->dataend);
$smtp->quit;
"""


def _net_smtp(mail: Submission) -> Run:
    # It turns each line end of UNIX into CR LF.
    lf_content = mail.content.replace(b"\r\n", b"\n")
    return Run(["perl", str(mail.file("send.pl", _NET_SMTP.encode())), str(_as_json(mail, lf_content))])


_SMTPLIB = """\
import json, smtplib, ssl, sys
mail = json.load(open(sys.argv[1]))
with smtplib.SMTP("localhost", mail["port"], timeout=60) as client:
    client.starttls(context=ssl.create_default_context(cafile=mail["authority"]))
    client.login(mail["username"], mail["password"])
    client.sendmail(mail["sender"], [mail["recipient"]], open(mail["message"], "rb").read(), ["BODY=8BITMIME"])
"""


def _smtplib(mail: Submission) -> Run:
    return Run([sys.executable, str(mail.file("send.py", _SMTPLIB.encode())), str(_as_json(mail))])


# No mail program here says BDAT (RFC 3030). The chunks are cut where it hurts, and sent without waiting for replies.
_CHUNKS = """\
import json, smtplib, ssl, sys
mail = json.load(open(sys.argv[1]))
rest = open(mail["message"], "rb").read()
with smtplib.SMTP("localhost", mail["port"], timeout=60) as client:
    client.starttls(context=ssl.create_default_context(cafile=mail["authority"]))
    client.login(mail["username"], mail["password"])
    assert client.has_extn("CHUNKING") and client.has_extn("DSN")
    said = f"MAIL FROM:<{mail['sender']}> BODY=8BITMIME RET=HDRS\\r\\n".encode()
    said += f"RCPT TO:<{mail['recipient']}> NOTIFY=NEVER\\r\\n".encode()
    number = 2
    while rest:
        size = rest.find(b"\\r\\n.") + 2 if number % 2 else rest.find(b"\\n")
        chunk = rest[: size if 0 < size < 2000 else 20000]
        rest = rest[len(chunk) :]
        said += b"BDAT %d\\r\\n" % len(chunk) + chunk
        number += 1
    client.send(said + b"BDAT 0 LAST\\r\\n")
    for _ in range(number + 1):
        code, text = client.getreply()
        assert code == 250, (code, text)
"""


def _chunks(mail: Submission) -> Run:
    return Run([sys.executable, str(mail.file("send.py", _CHUNKS.encode())), str(_as_json(mail))])


def _as_json(mail: Submission, content: bytes | None = None) -> Path:
    """A file that tells a script all of it."""
    message = mail.file("message", mail.content if content is None else content)
    values = {
        "port": mail.port,
        "authority": str(mail.authority),
        "username": mail.username,
        "password": mail.password,
        "sender": mail.sender,
        "recipient": mail.recipient,
        "message": str(message),
    }
    return mail.file("mail.json", json.dumps(values).encode())


SWAKS = Client("swaks", _swaks)
MSMTP = Client("msmtp", _msmtp)
CURL = Client("curl", _curl)
CHUNKS = Client("chunks", _chunks, needs=(sys.executable,))

CLIENTS = (
    SWAKS,
    MSMTP,
    CURL,
    Client("mutt", _mutt("mutt"), whole=False, longest_line=900),
    Client("neomutt", _mutt("neomutt"), whole=False, longest_line=900),
    Client("s-nail", _s_nail, whole=False, longest_line=900),
    Client("git-send-email", _git_send_email, whole=False, needs=("git", "/usr/lib/git-core/git-send-email")),
    Client("nodemailer", _nodemailer, needs=("node", str(NODE_MODULES / "nodemailer"))),
    Client(
        "net-smtp", _net_smtp, needs=("perl", "/usr/share/perl5/Authen/SASL.pm", "/usr/share/perl5/IO/Socket/SSL.pm")
    ),
    Client("smtplib", _smtplib, needs=(sys.executable,)),
    CHUNKS,
)
