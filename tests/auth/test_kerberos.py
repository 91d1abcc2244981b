"""Kerberos contexts: with a stub in place of the package, for all that a KDC does not show when asked to."""

import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from servers.keytabs import entry, file_of
from shortage import no_threads

from sendooway.auth import kerberos, principal
from sendooway.auth.identity import AuthenticatorError
from sendooway.sasl.gssapi import ContextError


class GSSError(Exception):
    """What the package raises, with its numbers."""

    def __init__(self, minor: int, major: int = 0xD0000) -> None:
        super().__init__()
        self.maj_code, self.min_code = major, minor

    def get_all_statuses(self, code: int, is_major: bool) -> list[str]:
        return ["The major one"] if is_major else ["the minor one", f"number {code}"]


class SecurityContext:
    """Answers each token with the next of `answers`, and is complete then with `facts`."""

    __DEFER_STEP_ERRORS__ = True
    answers: list[bytes | GSSError | None] = [b"answer"]
    facts: dict[str, Any] = {}

    def __init__(self, **arguments: Any) -> None:
        self.arguments = arguments
        self.left = list(self.answers)
        self.__dict__.update(self.facts)

    @property
    def complete(self) -> bool:
        return not self.left

    def step(self, token: bytes) -> bytes | None:
        answer = self.left.pop(0)
        if isinstance(answer, GSSError):
            raise answer
        return answer

    def wrap(self, message: bytes, encrypt: bool) -> SimpleNamespace:
        assert not encrypt
        return SimpleNamespace(message=b"w" + message)

    def unwrap(self, token: bytes) -> SimpleNamespace:
        if token[:1] != b"w":
            raise GSSError(0, 0x60000)
        return SimpleNamespace(message=token[1:])


class Stub(ModuleType):
    """The package. `credentials` makes credentials or raises."""

    def __init__(self) -> None:
        super().__init__("gssapi")
        self.made: list[dict[str, Any]] = []
        self.fail: Callable[[dict[str, Any]], GSSError | None] = lambda arguments: None
        self.MechType = SimpleNamespace(kerberos="krb5")
        self.NameType = SimpleNamespace(hostbased_service="host based")
        self.RequirementFlag = SimpleNamespace(integrity=1, mutual_authentication=2, out_of_sequence_detection=4)
        self.exceptions = SimpleNamespace(GSSError=GSSError)

        # A class of this stub's own, as what it answers is set on the class.
        self.SecurityContext: type[SecurityContext] = type("SecurityContext", (SecurityContext,), {})
        self.SecurityContext.facts = {
            "actual_flags": {1},
            "initiator_name": b"alice@EXAMPLE.TEST",
            "target_name": b"smtp/mx@EXAMPLE.TEST",
            "delegated_creds": None,
        }

    def Credentials(self, **arguments: Any) -> str:
        self.made.append(arguments)
        if (error := self.fail(arguments)) is not None:
            raise error
        return str(arguments["usage"])

    def Name(self, name: str, kind: str) -> str:
        return name


@pytest.fixture
def gssapi(monkeypatch: pytest.MonkeyPatch) -> Stub:
    stub = Stub()
    monkeypatch.setitem(sys.modules, "gssapi", stub)
    return stub


@pytest.fixture
def keytab(tmp_path: Path) -> str:
    path = tmp_path / "smtp.keytab"
    path.write_bytes(file_of(entry("smtp/mx@EXAMPLE.TEST")))
    return str(path)


def never(error: ContextError) -> None:
    raise AssertionError(error)


# Accepting


def test_a_client_is_accepted_with_the_keytab_s_keys(gssapi: Stub, keytab: str) -> None:
    context = kerberos.accept(keytab, constrained=False, warn=never)
    assert not context.complete
    assert context.step(b"token") == b"answer"
    assert context.complete
    assert (context.principal, context.tickets) == ("alice@EXAMPLE.TEST", None)
    assert context.unwrap(context.wrap(b"message")) == b"message"
    # SPNEGO is no mechanism of ours, and errors must not come later.
    assert gssapi.made == [{"usage": "accept", "mechs": ["krb5"], "store": {"keytab": keytab}}]
    assert gssapi.SecurityContext.__DEFER_STEP_ERRORS__ is False


def test_a_context_may_need_several_tokens_and_end_without_one(gssapi: Stub, keytab: str) -> None:
    gssapi.SecurityContext.answers = [b"one", None]
    context = kerberos.accept(keytab, constrained=False, warn=never)
    assert context.step(b"token") == b"one"
    assert not context.complete
    assert context.step(b"token") == b""
    assert context.complete


def test_delegated_credentials_are_handed_on(gssapi: Stub, keytab: str) -> None:
    tickets = gssapi.SecurityContext.facts["delegated_creds"] = object()
    context = kerberos.accept(keytab, constrained=False, warn=never)
    context.step(b"token")
    assert context.tickets is tickets


def test_octets_of_a_principal_that_are_not_utf_8_are_kept(gssapi: Stub, keytab: str) -> None:
    gssapi.SecurityContext.facts["initiator_name"] = b"al\xffice@EXAMPLE.TEST"
    context = kerberos.accept(keytab, constrained=False, warn=never)
    context.step(b"token")
    assert context.principal.encode("utf-8", "surrogateescape") == b"al\xffice@EXAMPLE.TEST"


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        ({"actual_flags": {2, 4}}, "no integrity"),
        ({"target_name": b"host/mx@EXAMPLE.TEST"}, "the ticket is for host/mx@EXAMPLE.TEST, not for smtp/HOST"),
        ({"target_name": b"smtps/mx@EXAMPLE.TEST"}, "not for smtp/HOST"),
    ],
)
def test_a_context_that_is_not_good_enough_is_refused(
    gssapi: Stub, keytab: str, facts: dict[str, Any], said: str
) -> None:
    gssapi.SecurityContext.facts |= facts
    context = kerberos.accept(keytab, constrained=False, warn=never)
    with pytest.raises(ContextError, match=said):
        context.step(b"token")


def test_an_empty_token_is_refused_before_the_library_sees_it(gssapi: Stub, keytab: str) -> None:
    context = kerberos.accept(keytab, constrained=False, warn=never)
    with pytest.raises(ContextError, match="empty token"):
        context.step(b"")


def test_what_cannot_be_unwrapped_is_refused(gssapi: Stub, keytab: str) -> None:
    context = kerberos.accept(keytab, constrained=False, warn=never)
    context.step(b"token")
    with pytest.raises(ContextError, match=r"The major one \(major 0x60000\)"):
        context.unwrap(b"no")


@pytest.mark.parametrize(
    ("code", "remedy"),
    [
        (-1765328352, "kinit"),  # expired
        (-1765328351, "NTP"),  # not yet valid
        (-1765328347, "NTP"),  # clock skew
        (-1765328350, "came twice"),  # replay
        (-1765328349, "kadmin ktadd"),  # not us
        (-1765328353, "get new tickets"),  # bad integrity
        (-1765328154, "get new tickets"),  # no such key version
        (-1765328377, "addprinc"),  # service unknown
        (-1765328228, "krb5.conf"),  # no KDC
        (-1765328371, "forwardable"),  # the KDC does not permit it
        (-1, ""),
    ],
)
def test_every_known_error_comes_with_its_remedy(gssapi: Stub, keytab: str, code: int, remedy: str) -> None:
    gssapi.SecurityContext.answers = [GSSError(code + 2**32)]
    context = kerberos.accept(keytab, constrained=False, warn=never)
    with pytest.raises(ContextError) as caught:
        context.step(b"token")
    number = code + 2**32
    assert str(caught.value) == (f"the minor one number {number} (minor {number}); The major one (major 0xd0000)")
    assert remedy in caught.value.remedy
    assert bool(remedy) == bool(caught.value.remedy)
    # A field of the log has 200 octets.
    assert len(caught.value.remedy) <= 200


def test_constrained_delegation_takes_the_service_s_own_ticket(gssapi: Stub, keytab: str) -> None:
    kerberos.accept(keytab, constrained=True, warn=never)
    (made,) = gssapi.made
    assert made["usage"] == "both"
    assert made["store"] == {"keytab": keytab, "client_keytab": keytab, "ccache": "MEMORY:service"}


def test_without_its_own_ticket_the_service_accepts_clients_still(gssapi: Stub, keytab: str) -> None:
    gssapi.fail = lambda arguments: GSSError(2**32 - 1765328228) if arguments["usage"] == "both" else None
    warnings: list[ContextError] = []
    context = kerberos.accept(keytab, constrained=True, warn=warnings.append)
    assert context.step(b"token") == b"answer"
    assert ["krb5.conf" in warning.remedy for warning in warnings] == [True]


def test_credentials_that_cannot_be_had_are_an_error(gssapi: Stub, keytab: str) -> None:
    gssapi.fail = lambda arguments: GSSError(2**32 - 1765328203)
    with pytest.raises(ContextError):
        kerberos.accept(keytab, constrained=False, warn=never)


def test_a_missing_keytab_is_named_in_our_own_words(gssapi: Stub) -> None:
    with pytest.raises(ContextError, match=r"keytab /nonexistent: it cannot be read \(No such file"):
        kerberos.accept("/nonexistent", constrained=False, warn=never)


def test_a_package_that_cannot_be_loaded_is_an_error_that_says_what_brings_it(
    monkeypatch: pytest.MonkeyPatch, keytab: str
) -> None:
    monkeypatch.setitem(sys.modules, "gssapi", None)
    with pytest.raises(ContextError, match=r"Debian: python3-gssapi, libgssapi-krb5-2"):
        kerberos.accept(keytab, constrained=False, warn=never)


# Initiating


def test_the_first_tickets_that_are_good_log_in(gssapi: Stub) -> None:
    delegated = object()
    gssapi.SecurityContext.answers = [b"one", None]
    context = kerberos.initiate("mx.test", delegated, "/keytab")
    assert not context.complete
    assert context.step(b"") == b"one"
    assert context.step(b"token") == b""
    assert context.complete
    assert context.unwrap(context.wrap(b"message")) == b"message"
    assert gssapi.made == []


def test_the_order_is_delegated_credential_cache_client_keytab(gssapi: Stub) -> None:
    gssapi.fail = lambda arguments: None if arguments.get("store") else GSSError(2**32 - 1765328189)
    assert kerberos.initiate("mx.test", None, "/keytab").step(b"") == b"answer"
    assert [made.get("store") for made in gssapi.made] == [
        None,
        {"client_keytab": "/keytab", "ccache": "MEMORY:client"},
    ]


def test_where_no_ticket_is_good_each_way_is_named(gssapi: Stub) -> None:
    gssapi.fail = lambda arguments: GSSError(2**32 - 1765328189)
    gssapi.SecurityContext.answers = [GSSError(2**32 - 1765328352)]
    with pytest.raises(ContextError) as caught:
        kerberos.initiate("mx.test", object(), "/keytab").step(b"")
    assert [str(cause).split(":")[0] for cause in caught.value.causes] == [
        "delegated by the client",
        "credential cache",
        "client keytab /keytab",
    ]
    assert str(caught.value).startswith("no ticket; delegated by the client: the minor one")
    assert "get a new ticket with kinit" in str(caught.value)


def test_a_kdc_is_not_waited_for_for_ever(gssapi: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    answered = threading.Event()
    gssapi.fail = lambda arguments: GSSError(0) if answered.wait(10) else None
    monkeypatch.setattr(kerberos, "KDC_SECONDS", 0.05)
    with pytest.raises(ContextError, match=r"no KDC answered within 0\.05 seconds") as caught:
        kerberos.initiate("mx.test", None, "").step(b"")
    answered.set()
    assert "krb5.conf" in caught.value.remedy


def test_where_threads_are_short_no_kdc_is_asked(gssapi: Stub) -> None:
    with no_threads(), pytest.raises(ContextError, match="can't start new thread") as caught:
        kerberos.initiate("mx.test", None, "").step(b"")
    assert "too many processes" in caught.value.remedy


def test_an_error_that_is_no_error_of_the_package_comes_through(gssapi: Stub) -> None:
    def fail(arguments: dict[str, Any]) -> GSSError | None:
        raise ZeroDivisionError

    gssapi.fail = fail
    with pytest.raises(ZeroDivisionError):
        kerberos.initiate("mx.test", None, "").step(b"")


# What decides whether GSSAPI is offered


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The package is there, whether it could be loaded or not."""
    (tmp_path / "site/gssapi").mkdir(parents=True)
    (tmp_path / "site/gssapi/__init__.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path / "site"))


@pytest.mark.usefixtures("found")
def test_with_package_library_and_keytab_everything_is_there(keytab: str) -> None:
    try:
        principal.check()
        kerberos.check(keytab)
    except (AuthenticatorError, principal.PrincipalError) as error:
        pytest.skip(str(error))


@pytest.mark.usefixtures("found")
def test_a_missing_library_is_named_with_its_package(keytab: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kerberos, "LIBRARY", "libnonsense.so.2")
    with pytest.raises(AuthenticatorError, match=r"Debian: libgssapi-krb5-2"):
        kerberos.check(keytab)


def test_a_missing_package_is_named(keytab: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [])
    with pytest.raises(AuthenticatorError, match=r"Debian: python3-gssapi"):
        kerberos.check(keytab)


@pytest.mark.usefixtures("found")
def test_a_missing_keytab_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kerberos, "LIBRARY", None)
    with pytest.raises(AuthenticatorError, match=r"keytab /nonexistent: it cannot be read"):
        kerberos.check("/nonexistent")
