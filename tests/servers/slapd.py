"""slapd of OpenLDAP: a real directory of people, on loopback only, with a folder and ports of its own.

It needs no root, and does not touch a slapd of the machine.
"""

import base64
import shutil
import signal
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from servers.certificates import Certificate
from servers.processes import PATIENCE, accepts, free_port, wait_until

_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
_MODULES = "/usr/lib/ldap"
_SCHEMAS = ("core", "cosine", "nis", "inetorgperson")

BASE = "dc=moon,dc=test"
PEOPLE = f"ou=people,{BASE}"
# Its people cannot read their own entries.
HIDDEN = f"ou=hidden,{BASE}"

CONFIGURATION = """\
{includes}
pidfile {folder}/pid
modulepath {modules}
moduleload back_mdb
TLSCACertificateFile {certificate}
TLSCertificateFile {certificate}
TLSCertificateKeyFile {key}
database mdb
suffix {base}
directory {folder}/data
maxsize 10485760
access to attrs=userPassword by anonymous auth by * none
access to dn.subtree="ou=hidden,{base}" by anonymous auth by * none
access to * by self read by anonymous auth by * none
"""


@dataclass(frozen=True)
class Person:
    """An entry uid=`name`,`folder`. An attribute without values is left out; `home` by default /home/NAME."""

    name: str
    password: str
    number: int = 0
    folder: str = PEOPLE
    attributes: Mapping[str, tuple[str, ...]] = field(default_factory=dict, hash=False)
    classes: tuple[str, ...] = ("inetOrgPerson", "posixAccount")

    def ldif(self) -> str:
        values: dict[str, tuple[str, ...]] = {
            "objectClass": self.classes,
            "uid": (self.name,),
            "cn": ("A person",),
            "sn": ("Person",),
            "userPassword": (self.password,),
        }
        if "posixAccount" in self.classes:
            values |= {
                "uidNumber": (str(self.number),),
                "gidNumber": (str(self.number),),
                "homeDirectory": (f"/home/{self.name}",),
            }
        values |= self.attributes
        lines = [f"dn:: {_base64(f'uid={escape(self.name)},{self.folder}')}"]
        lines += [f"{name}:: {_base64(value)}" for name in values for value in values[name]]
        return "\n".join(lines) + "\n\n"


# What a user's name may hold that means something in a DN.
ODD_NAMES = (
    *("o'brien", "a+b", "a,ou=hidden", 'a"b', "a=b", "a;b", "a<b>", "a\\b", "#a", " lead", "trail ", "a#b"),
    *("\u00e4lice", "\u4e16\u754c", "a*b", "(a)", "a\\2cb", "%u", "alice@moon.test"),
)


def posix(**attributes: str | tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    return {name: (value,) if isinstance(value, str) else value for name, value in attributes.items()}


ALICE = Person("alice", "alice-secret", 50001)
BOB = Person("bob", "bob-secret", 50002)
USERS_GROUP = Person("carol", "carol-secret", 50003, attributes=posix(gidNumber="100"))
UNREADABLE = Person("dave", "dave-secret", 50004, HIDDEN)

# Entries that nobody may log in with, and a part of the reason.
REFUSED = {
    Person("toor", "x-secret", attributes=posix(uidNumber="0", gidNumber="0")): "uidNumber 0 is none of a person",
    Person("sys", "x-secret", attributes=posix(uidNumber="33")): "uidNumber 33 is none of a person",
    Person("dynamic", "x-secret", attributes=posix(uidNumber="61184")): "uidNumber 61184 is none of a person",
    Person("nobody-else", "x-secret", attributes=posix(uidNumber="65534")): "uidNumber 65534 is none",
    Person("negative", "x-secret", attributes=posix(uidNumber="-5")): "uidNumber is no number",
    Person("huge", "x-secret", attributes=posix(uidNumber="4294967297")): "uidNumber 4294967297 is none",
    Person("shadowy", "x-secret", 50010, attributes=posix(gidNumber="42")): "gidNumber 42 is none of a person",
    Person("wheel", "x-secret", 50011, attributes=posix(gidNumber="0")): "gidNumber 0 is none of a person",
    Person("homeless", "x-secret", 50012, attributes=posix(homeDirectory="home")): "homeDirectory is not",
    Person("climber", "x-secret", 50013, attributes=posix(homeDirectory="/home/../root")): "homeDirectory is not",
    Person("printer", "x-secret", 50014, attributes=posix(homeDirectory="/home/a\nb")): "homeDirectory is not",
    Person("person", "x-secret", classes=("inetOrgPerson",)): "the entry has no ",
    # A name of this system with another number would have its groups.
    Person("daemon", "x-secret", 50015): "a user of this system has the name",
    Person("root", "x-secret", 50016): "a user of this system has the name",
}

EVERYBODY = (
    *(ALICE, BOB, USERS_GROUP, UNREADABLE, *REFUSED),
    *(Person(name, f"{name}-secret", 50100 + at) for at, name in enumerate(ODD_NAMES)),
)


def escape(value: str) -> str:
    """In a DN (RFC 4514, 2.4), with as few backslashes as possible."""
    escaped = "".join(f"\\{char}" if char in '\\"+,;<>' else char for char in value)
    if escaped.startswith((" ", "#")):
        escaped = f"\\{escaped}"
    return f"{escaped[:-1]}\\ " if value.endswith(" ") and len(value) > 1 else escaped


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def why_not() -> str:
    """Why there can be no slapd here; empty where there can."""
    missing = [name for name in ("slapd", "slapadd") if not shutil.which(name, path=_PATH)]
    return f"not installed: {', '.join(missing)}" if missing else ""


class Slapd:
    """Serves ldap://127.0.0.1:`port` and ldaps://127.0.0.1:`tls_port` inside a `with`. `folder` has to exist.

    Without a certificate it knows no TLS at all.
    """

    def __init__(self, folder: Path, people: Iterable[Person], certificate: Certificate | None) -> None:
        self.folder = folder
        self.port, self.tls_port = free_port(), free_port()
        self._has_tls = certificate is not None
        (folder / "data").mkdir()
        text = CONFIGURATION.format(
            includes="\n".join(f"include /etc/ldap/schema/{name}.schema" for name in _SCHEMAS),
            folder=folder,
            modules=_MODULES,
            base=BASE,
            certificate=certificate.certificate if certificate else "",
            key=certificate.key if certificate else "",
        )
        lines = text.splitlines()
        if certificate is None:
            lines = [line for line in lines if not line.startswith("TLS")]
        self._configuration = folder / "slapd.conf"
        self._configuration.write_text("\n".join(lines) + "\n")
        folders = "".join(
            f"dn: ou={name},{BASE}\nobjectClass: organizationalUnit\nou: {name}\n\n" for name in ("people", "hidden")
        )
        top = f"dn: {BASE}\nobjectClass: dcObject\nobjectClass: organization\no: Moon\ndc: moon\n\n"
        data = folder / "data.ldif"
        data.write_text(top + folders + "".join(person.ldif() for person in people))
        self._run("slapadd", "-f", self._configuration, "-l", data)

    @property
    def uri(self) -> str:
        return f"ldap://127.0.0.1:{self.port}"

    @property
    def tls_uri(self) -> str:
        return f"ldaps://127.0.0.1:{self.tls_port}"

    def __enter__(self) -> "Slapd":
        uris = [self.uri, self.tls_uri] if self._has_tls else [self.uri]
        self._log = (self.folder / "log").open("wb")
        self._process = subprocess.Popen(
            # With -d it stays in the foreground.
            [self._program("slapd"), "-f", self._configuration, "-h", " ".join(uris), "-d", "stats"],
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
        )
        wait_until(self._is_ready, "slapd accepts")
        return self

    def _is_ready(self) -> bool:
        assert self._process.poll() is None, (self.folder / "log").read_text()
        return accepts(self.port) and (not self._has_tls or accepts(self.tls_port))

    def __exit__(self, *_: object) -> None:
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(PATIENCE)
        finally:
            self._process.kill()
            self._process.wait()
            self._log.close()

    @property
    def log(self) -> str:
        """What was asked, as slapd sees it: `BIND dn="..."`, `SRCH`, `RESULT`."""
        return (self.folder / "log").read_text(errors="replace")

    def _run(self, name: str, *arguments: object) -> None:
        done = subprocess.run(
            [self._program(name), *map(str, arguments)], capture_output=True, text=True, check=False, timeout=60
        )
        assert done.returncode == 0, done.stderr

    def _program(self, name: str) -> str:
        program = shutil.which(name, path=_PATH)
        assert program
        return program
