"""python -m bench.scale [--quick] [--plots FOLDER]: how what a mail costs grows, or not, with three things.

They are sessions at the same time, identities in a user's files, and the octets of a message. TLS and a login on both
sides, all on this machine; each message has to arrive as it is. CPU time is that of all processes of the server, which
begins anew for each figure. As root the passwords are checked by PAM (a cheap hash), else not at all.
"""

import argparse
import contextlib
import math
import os
import pwd
import resource
import ssl
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.crowd import Crowd
from bench.curve import Curve
from bench.load import SENDER, Message, Server
from bench.smarthost import PASSWORD, USERNAME, Smarthost
from servers import users
from servers.certificates import Certificates, make_certificates
from servers.program import Sendooway
from servers.users import User

SMALL = Message(4096)

_CONFIGURATION = """\
localname = proxy.test
authBackend = {backend}
mailerEncryption = required
maxSessions = 2000
maxSessionsPerUser = 2000
maxUnauthenticated = 2000
loginTimeout = 600
sslCA = {certificates.authority}
sslCert = {certificates.good.certificate}
sslKey = {certificates.good.key}
smarthostMapping = {mapping}
"""
# An entry of its own for each identity, with a login of its own: the most that anybody could have to be read.
_ENTRY = """\
poll pop.moon.test proto pop3 user "mailbox-{number}" pass "secret-{number}" ssl
  #sendooway:server "localhost"
  #sendooway:port {port}
  #sendooway:tls
  #sendooway:user "{username}"
  #sendooway:pass "{password}"
  #sendooway:address "{address}"
"""
_IDENTITIES_OF_A_FILE = 2500  # which has at most 1 MiB

_BUSY = 10  # of the sessions at the same time


@dataclass(frozen=True)
class Amount:
    """At which points to measure, and how much of it: so many sessions, mails and octets, or one for each client."""

    clients: Sequence[int] = (1, 10, 100, 300, 1000)
    identities: Sequence[int] = (1, 10, 100, 1000, 10_000)
    octets: Sequence[int] = (1000, 10_000, 100_000, 1_000_000, 10_000_000, 100_000_000, 1_000_000_000)
    users: int = 50
    sessions: int = 1000
    mails: int = 2000
    octets_in_all: int = 500_000_000


QUICK = Amount((1, 5), (1, 20), (1000, 1_000_000), 2, 20, 20, 2_000_000)


class Scale:
    """The curves. `folder` is empty, and every user of the machine can enter it. PAM checks the passwords of `people`;
    where there are none, whoever runs this logs in, and no password is checked."""

    def __init__(
        self,
        folder: Path,
        certificates: Certificates,
        smarthost: Smarthost,
        people: Sequence[User],
        amount: Amount,
    ) -> None:
        self._folder = folder
        self._certificates = certificates
        self._smarthost = smarthost
        self._tls = ssl.create_default_context(cafile=str(certificates.authority))
        self._people = people
        self._amount = amount
        # Before they are read: what was written a moment ago is read again each time.
        for number in amount.identities:
            self._write(number)

    def sessions(self) -> Curve:
        def measure(clients: int) -> tuple[float, float, float]:
            # What the sessions of a moment ago have left logged in spares few clients more than many.
            with self._crowd(clients, more="smarthostIdle = 0\n") as crowd:
                session = crowd.seconds_of_a_session(SMALL, math.ceil(self._amount.sessions / clients))
            with self._crowd(clients) as crowd:
                mails = math.ceil(self._amount.mails / clients)
                some = crowd.seconds_of_a_mail(SMALL, mails, at_once=_BUSY)
                all_of_them = crowd.seconds_of_a_mail(SMALL, mails, at_once=clients)
            return session * 1000, some * 1000, all_of_them * 1000

        lines = ("session, one mail", f"mail, {_BUSY} busy", "mail, all busy")
        return Curve("Sessions at the same time", "sessions", lines, self._amount.clients, measure)

    def identities(self) -> Curve:
        def measure(identities: int) -> tuple[float, float, float]:
            mapping = f"fetchmail:{self._accounts(identities)}/*"
            # In the first sessions of several users nothing has been read.
            people = self._people[:10]
            with self._crowd(1, mapping, people=people, sender=_identity(identities - 1)) as crowd:
                first = crowd.seconds_of_a_session(SMALL, len(people) or 1)
                session = crowd.seconds_of_a_session(SMALL, self._amount.sessions // 20)
                mail = crowd.seconds_of_a_mail(SMALL, self._amount.mails // 10, at_once=1)
            return first * 1000, session * 1000, mail * 1000

        lines, points = ("first session", "session, one mail", "further mail"), self._amount.identities
        return Curve("Identities in a user's files", "identities", lines, points, measure, logarithmic=True)

    def sizes(self) -> Curve:
        def measure(octets: int) -> tuple[float, float]:
            message = Message(octets)
            times = max(1, min(self._amount.mails // 10, self._amount.octets_in_all // octets))
            with self._crowd(1) as crowd:
                mail = crowd.seconds_of_a_mail(message, times, at_once=1)
            return mail * 1000, mail * 1000 * 1e6 / message.octets

        lines, points = ("mail", "MB"), self._amount.octets
        return Curve("Size of a message", "octets", lines, points, measure, _size, logarithmic=True)

    @contextlib.contextmanager
    def _crowd(
        self,
        clients: int,
        mapping: str = "",
        more: str = "",
        people: Sequence[User] | None = None,
        sender: str = SENDER,
    ) -> Iterator[Crowd]:
        """Before a server that has just begun."""
        people = self._people if people is None else people
        direct = f"direct:{SENDER} localhost {self._smarthost.port} {USERNAME} {PASSWORD} tls"
        configuration = _CONFIGURATION.format(
            backend="PAM" if people else "none", certificates=self._certificates, mapping=mapping or direct
        )
        logins = [(user.name, user.password) for user in people] or [(pwd.getpwuid(os.getuid()).pw_name, "any")]
        with (
            tempfile.TemporaryDirectory(dir=self._folder) as folder,
            Sendooway(Path(folder), configuration + more) as server,
        ):
            servers = [Server("Sendooway", server.port, *login, server.process.pid) for login in logins]
            yield Crowd(clients, servers, self._smarthost, self._tls, sender)

    def _accounts(self, identities: int) -> Path:
        """The folder of the files."""
        return self._folder / f"identities-{identities}"

    def _write(self, identities: int) -> None:
        self._accounts(identities).mkdir()
        for begin in range(0, identities, _IDENTITIES_OF_A_FILE):
            file = self._accounts(identities) / f"fetchmailrc-{begin}"
            with file.open("x") as opened:
                for number in range(begin, min(identities, begin + _IDENTITIES_OF_A_FILE)):
                    opened.write(
                        _ENTRY.format(
                            number=number,
                            port=self._smarthost.port,
                            username=USERNAME,
                            password=PASSWORD,
                            address=_identity(number),
                        )
                    )


def _size(octets: int) -> str:
    power = min(3, int(math.log10(octets)) // 3)
    return f"{octets / 1000**power:g} {('B', 'KB', 'MB', 'GB')[power]}"


def _identity(number: int) -> str:
    return f"identity-{number}@moon.test"


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench.scale")
    parser.add_argument("--quick", action="store_true", help="a few points, of which nothing can be learned")
    parser.add_argument("--plots", type=Path, help="the folder for the plots")
    options = parser.parse_args()
    # Each client is a descriptor, and one more in the server, and two more at the smarthost.
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    amount = QUICK if options.quick else Amount()
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sendooway-bench-")))
        folder.chmod(0o755)
        people = []
        if not users.why_not():
            stack.enter_context(users.pam_service())
            for number in range(amount.users):
                people.append(stack.enter_context(users.temporary_user(f"sendooway-bench-{number}", folder)))
        run(folder, people, amount, options.plots)


def run(folder: Path, people: Sequence[User], amount: Amount, plots: Path | None) -> None:
    """Prints all tables, and writes a plot of each below `plots`."""
    certificates = make_certificates(folder)
    with Smarthost(certificates.good) as smarthost:
        scale = Scale(folder, certificates, smarthost, people, amount)
        curves = {"sessions": scale.sessions(), "identities": scale.identities(), "sizes": scale.sizes()}
        for name, curve in curves.items():
            rows = curve.measure()
            if plots is not None:
                (plots / f"{name}.svg").write_bytes(curve.plot(rows))


if __name__ == "__main__":
    main()
