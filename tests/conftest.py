"""What many tests share: folders, certificates, and real servers that run for the whole test run."""

import signal
import ssl
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from clock import Clock
from hypothesis import HealthCheck, settings
from servers import machine as machine_
from servers import postfix as postfix_
from servers import realm as realm_
from servers import roots as roots_
from servers import slapd as slapd_
from servers import users
from servers.certificates import Certificates, make_certificates
from servers.postfix import Postfix, PostfixAccount
from servers.realm import Realm
from servers.roots import Release
from servers.slapd import Slapd
from servers.users import User

# The verdict on a commit depends neither on chance (`make fuzz` is what looks for more) nor on how busy the machine is.
settings.register_profile("sendooway", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("sendooway")

# A shell starts what runs in the background with SIGINT ignored, and the programs that tests start would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Two identities of one person at two providers, played by one Postfix: each login may send as its own address only.
POSTFIX_ACCOUNTS = {
    "moon": PostfixAccount("alice-moon", "moon secret", ("alice@moon.test", "jörg@moon.test")),
    "sun": PostfixAccount("alice-sun", "sun-s3cret:+", ("alice@sun.test", "office@sun.test")),
}


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(scope="session")
def shared_folder() -> Iterator[Path]:
    """A folder that other users of the machine can enter, unlike those of tmp_path."""
    with tempfile.TemporaryDirectory(prefix="sendooway-test-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder


@pytest.fixture(scope="session")
def certificates(shared_folder: Path) -> Certificates:
    folder = shared_folder / "certificates"
    folder.mkdir()
    return make_certificates(folder)


@pytest.fixture
def tls(certificates: Certificates) -> ssl.SSLContext:
    """What a client trusts."""
    return ssl.create_default_context(cafile=str(certificates.authority))


@pytest.fixture(scope="session")
def postfix(shared_folder: Path, certificates: Certificates) -> Iterator[Postfix]:
    if reason := postfix_.why_not():
        pytest.skip(reason)
    folder = shared_folder / "postfix"
    folder.mkdir()
    server = Postfix(folder, certificates.good, POSTFIX_ACCOUNTS)
    try:
        server.start()
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="session")
def realm(shared_folder: Path) -> Iterator[Realm]:
    """The realm EXAMPLE.TEST with the people alice and bob, whose passwords are theirs and `-secret`."""
    if reason := realm_.why_not():
        pytest.skip(reason)
    folder = shared_folder / "realm"
    folder.mkdir()
    with Realm(folder) as realm:
        for name in ("alice", "bob"):
            realm.add(name, f"{name}-secret")
        yield realm


@pytest.fixture(scope="session")
def keytab(realm: Realm) -> Path:
    """With the keys of smtp/localhost."""
    realm.add("smtp/localhost")
    return realm.write_keytab(realm.folder / "smtp.keytab", "smtp/localhost")


@pytest.fixture(scope="session")
def root(shared_folder: Path) -> Callable[[Release], Path]:
    """The bare system of a release, made when it is first asked for."""
    if reason := roots_.why_not() or machine_.why_not():
        pytest.skip(reason)
    made: dict[Release, Path] = {}

    def make(release: Release) -> Path:
        if release not in made:
            try:
                made[release] = roots_.make_root(shared_folder, release)
            except roots_.Unreachable as error:
                pytest.skip(str(error))
        return made[release]

    return make


@pytest.fixture(scope="session")
def slapd(shared_folder: Path, certificates: Certificates) -> Iterator[Slapd]:
    """The directory of EVERYBODY."""
    if reason := slapd_.why_not():
        pytest.skip(reason)
    folder = shared_folder / "slapd"
    folder.mkdir()
    with Slapd(folder, slapd_.EVERYBODY, certificates.good) as directory:
        yield directory


@pytest.fixture(scope="session")
def _users(shared_folder: Path) -> Iterator[tuple[User, User]]:
    if reason := users.why_not():
        pytest.skip(reason)
    with (
        users.pam_service(),
        users.temporary_user("sendooway-alice", shared_folder) as alice,
        users.temporary_user("sendooway-bob", shared_folder) as bob,
    ):
        yield alice, bob


@pytest.fixture
def alice(_users: tuple[User, User]) -> User:
    """A user with an empty home folder."""
    _users[0].clear_home()
    return _users[0]


@pytest.fixture
def bob(_users: tuple[User, User]) -> User:
    """Another user with an empty home folder."""
    _users[1].clear_home()
    return _users[1]
