"""sendooway.conf: what is accepted, what it means, and how it is refused."""

import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sendooway import sasl
from sendooway.config import (
    MAX_MAPPINGS,
    MECHANISMS,
    Backend,
    Configuration,
    ConfigurationError,
    EightBitMime,
    Encryption,
    Listen,
    Mapping,
    Parsed,
    Use,
    UserSettings,
    default_mappings,
    login_possible,
)
from sendooway.config.keywords import KEYWORDS, MAX_LINE, parse, parse_user_include, redact
from sendooway.origin import Origin
from sendooway.secret import Secret

DEFAULT = Configuration(UserSettings("host.test"))


def parsed(text: str) -> Parsed:
    return parse(text, "conf", "host.test")


def configured(text: str) -> Configuration:
    return parsed(text).configuration


def refusal(text: str) -> ConfigurationError:
    with pytest.raises(ConfigurationError) as caught:
        parsed(text)
    return caught.value


# The format


@pytest.mark.parametrize(
    "text", ["", "\n\n", "# workers = 4", " \t # workers = 4\n", "\r\n\r\n", "\ufeff", "\ufeff# x"]
)
def test_an_empty_file_means_the_defaults(text: str) -> None:
    assert parsed(text) == Parsed(DEFAULT, default_mappings(), ())


@pytest.mark.parametrize(
    "line",
    [
        "workers=4",
        "workers = 4",
        " \t workers\t=\t4 \t",
        "WORKERS = 4",
        "wOrKeRs = 4 # as many as there are cores",
        "workers = 4#",
        "workers = 4\r",
        "\ufeffworkers = 4",
        "# first\n\nworkers = 4\n\n",
    ],
)
def test_blanks_case_and_comments_are_free(line: str) -> None:
    assert configured(line) == replace(DEFAULT, workers=4)


def test_a_value_may_have_an_equals_sign_and_blanks_within() -> None:
    assert configured("sslCert = /etc/a = b").ssl_cert == "/etc/a = b"


def test_other_separators_of_lines_than_lf_are_part_of_the_value() -> None:
    assert configured("sslCA = /a\u2028workers = 4").user_settings.ssl_ca == "/a\u2028workers = 4"


@pytest.mark.parametrize("char", ["\x00", "\x0b", "\x1f", "\x7f", "\x85", "\x9f", "\r"])
def test_a_control_character_in_a_value_is_refused(char: str) -> None:
    assert str(refusal(f"\nsslCA = /a{char}b")) == "conf:2: sslCA: the value has a control character in it; remove it"


def test_a_line_without_equals_sign_is_refused() -> None:
    assert str(refusal("\nworkers 4")) == "conf:2: the line has no `=`; `keyword = value` would be right"


def test_a_line_longer_than_any_sane_one_is_refused() -> None:
    line = "sslCA = /"
    assert configured(line + "a" * (MAX_LINE - len(line))) != DEFAULT
    assert "longer than 4096 characters" in str(refusal(line + "a" * (MAX_LINE - len(line) + 1)))


# Keywords and values


ADMINISTRATOR_LINES = [
    ("sslCert = /c.pem", "ssl_cert", "/c.pem"),
    ("mailerEncryption = allowed", "mailer_encryption", Encryption.ALLOWED),
    ("mailerEncryption = FORBIDDEN", "mailer_encryption", Encryption.FORBIDDEN),
    ("ext8BitMime = force", "ext_8bit_mime", EightBitMime.FORCE),
    ("ext8BitMime = Disable", "ext_8bit_mime", EightBitMime.DISABLE),
    ("ext8BitMime = ignore", "ext_8bit_mime", EightBitMime.IGNORE),
    ("extMessageSize = DISABLE", "ext_message_size", None),
    ("extMessageSize = 0", "ext_message_size", 0),
    ("extMessageSize = 10240000", "ext_message_size", 10240000),
    ("authBackend = pam", "auth_backend", Backend.PAM),
    ("authBackend = None", "auth_backend", Backend.NONE),
    ("validUser = alice\nvalidUser = %staff", "valid_users", ("alice", "%staff")),
    ("userInclude = %h/.sendoowayrc", "user_include", "%h/.sendoowayrc"),
    ("userInclude = /etc/100%%/%u", "user_include", "/etc/100%%/%u"),
    ("listen = 192.0.2.1:587", "listen", (Listen("192.0.2.1", 587),)),
    ("listen = [2001:DB8::0:1]:smtp", "listen", (Listen("2001:db8::1", 25),)),
    ("listen = [fe80::1%eth0]:587", "listen", (Listen("fe80::1%eth0", 587),)),
    ("listen = *:Submission", "listen", (Listen("", 587),)),
    ("listen = LOCALHOST:587", "listen", (Listen("127.0.0.1", 587), Listen("::1", 587))),
    ("listen = unix:/run/s", "listen", (Listen(path="/run/s"),)),
    (
        "proxyTrust = 192.0.2.7 2001:DB8:0::/64\nproxyTrust = 10.0.0.0/8 192.0.2.8/32",
        "proxy_trust",
        ("192.0.2.7/32", "2001:db8::/64", "10.0.0.0/8", "192.0.2.8/32"),
    ),
    ("listen = UNIX:/run/s\nlisten = *:25", "listen", (Listen(path="/run/s"), Listen("", 25))),
    ("authMechanisms = gssapi", "auth_mechanisms", ("GSSAPI",)),
    ("authMechanisms = login, Plain GSSAPI", "auth_mechanisms", ("GSSAPI", "PLAIN", "LOGIN")),
    ("krb5Keytab = /etc/mail.keytab", "krb5_keytab", "/etc/mail.keytab"),
    ("krb5Keytab = FILE:/etc/mail.keytab", "krb5_keytab", "/etc/mail.keytab"),
    ("krb5PamAccount = yes", "krb5_pam_account", True),
    ("krb5PamAccount = no", "krb5_pam_account", False),
    ("krb5ConstrainedDelegation = yes", "krb5_constrained_delegation", True),
    ("authCache = 600", "auth_cache", 600),
    ("dialEarly = yes", "dial_early", True),
    ("workers = 1", "workers", 1),
    ("workers = 64", "workers", 64),
    ("maxSessions = 1", "max_sessions", 1),
    ("maxSessions = 10000", "max_sessions", 10_000),
    ("maxSessionsPerClient = 7", "max_sessions_per_client", 7),
    ("maxSessionsPerUser = 7", "max_sessions_per_user", 7),
    ("maxUnauthenticated = 7", "max_unauthenticated", 7),
    ("maxLoginChecks = 7", "max_login_checks", 7),
    ("maxFailedLogins = 100", "max_failed_logins", 100),
    ("maxErrors = 1000", "max_errors", 1000),
    ("maxRecipients = 100000", "max_recipients", 100_000),
    ("loginTimeout = 3600", "login_timeout", 3600),
    ("idleTimeout = 86400", "idle_timeout", 86_400),
    ("runAs = mail", "run_as", "mail"),
    ("ldapAuthDN = uid=%u,dc=test", "ldap_auth_dn", "uid=%u,dc=test"),
    ("ldapUri = ldap://a  LDAPS://b:636", "ldap_uri", ("ldap://a", "LDAPS://b:636")),
    ("ldapSSLca = /ca.pem", "ldap_ssl_ca", "/ca.pem"),
]


@pytest.mark.parametrize(("line", "field", "value"), ADMINISTRATOR_LINES)
def test_a_keyword_of_the_administrator_sets_its_field(line: str, field: str, value: object) -> None:
    assert getattr(configured(line), field) == value


USER_LINES = [
    ("localname = mail.example.org", "localname", "mail.example.org"),
    ("localname = [192.0.2.1]", "localname", "[192.0.2.1]"),
    ("cloneEhlo = YES", "clone_ehlo", True),
    ("cloneEhlo = no", "clone_ehlo", False),
    ("addReceivedField = No", "add_received_field", False),
    ("guessAccounts = yes", "guess_accounts", True),
    ("timeout = 1", "timeout", 1),
    ("timeout = 300", "timeout", 300),
    ("sslCA = /ca ü.pem", "ssl_ca", "/ca ü.pem"),
    ("sslCA = /ca\udcfc.pem", "ssl_ca", "/ca\udcfc.pem"),
    ("smarthostPlain = never", "smarthost_plain", Use.NEVER),
    ("smarthostLogin = ALWAYSTRY", "smarthost_login", Use.ALWAYS_TRY),
    ("smarthostCramMD5 = ifadvertised", "smarthost_cram_md5", Use.IF_ADVERTISED),
    ("smarthostGssapi = Never", "smarthost_gssapi", Use.NEVER),
    ("krb5ClientKeytab = %h/.keytab", "krb5_client_keytab", "%h/.keytab"),
]


@pytest.mark.parametrize(("line", "field", "value"), USER_LINES)
def test_a_keyword_of_the_user_sets_its_field_in_both_files(line: str, field: str, value: object) -> None:
    assert configured(line).user_settings == replace(DEFAULT.user_settings, **{field: value})  # type: ignore[arg-type]
    assert parse_user_include(line, "rc", DEFAULT.user_settings) == (
        replace(DEFAULT.user_settings, **{field: value}),  # type: ignore[arg-type]
        (),
        (),
    )


def test_tls_may_follow_the_address_to_listen_on() -> None:
    text = "sslCert = /c\nlisten = *:submissions tls\nlisten = unix:/run/s \t TLS\nlisten = *:smtps"
    with pytest.raises(ConfigurationError, match=r"conf:4: listen: the line at conf:2 listens there already"):
        parsed(text)
    assert configured(text.replace("*:smtps", "*:587")).listen == (
        Listen("", 465, tls=True),
        Listen(path="/run/s", tls=True),
        Listen("", 587),
    )


@pytest.mark.parametrize(
    "keyword",
    [
        "localname",
        "sslCA",
        "sslCert",
        "sslKey",
        "validUser",
        "userInclude",
        "runAs",
        "smarthostMapping",
        "ldapAuthDN",
        "ldapUri",
        "ldapSSLca",
        "krb5Keytab",
        "krb5ClientKeytab",
        "authMechanisms",
        "proxyTrust",
    ],
)
def test_an_empty_string_means_the_default(keyword: str) -> None:
    assert parsed(f"{keyword} = # nothing") == Parsed(DEFAULT, default_mappings(), ())


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("cloneEhlo = true", "cloneEhlo: 'true' is not yes or no"),
        ("addReceivedField =", "addReceivedField: '' is not yes or no"),
        (
            "authMechanisms = CRAM-MD5",
            "authMechanisms: 'CRAM-MD5' is not a list of GSSAPI, PLAIN or LOGIN apart by blanks",
        ),
        (
            "krb5Keytab = mail.keytab",
            "krb5Keytab: 'mail.keytab' is not the absolute path of a keytab, as in /etc/krb5.keytab",
        ),
        ("krb5Keytab = KCM:", "krb5Keytab: 'KCM:' is not the absolute path of a keytab, as in /etc/krb5.keytab"),
        ("ext8bitmime = on", "ext8BitMime: 'on' is not force, disable or ignore"),
        ("mailerEncryption = need", "mailerEncryption: 'need' is not allowed, required or forbidden"),
        ("smarthostPlain =", "smarthostPlain: '' is not ifAdvertised, alwaysTry or never"),
        ("authBackend = passwd", "authBackend: 'passwd' is not PAM, LDAP or none"),
        ("authBackend = LDAP", "authBackend: `LDAP` needs ldapUri, too"),
        ("authBackend = LDAP\nldapUri = ldap://a", "authBackend: `LDAP` needs ldapAuthDN, too"),
        (
            "dialEarly = yes\nsmarthostIdle = 0",
            "dialEarly: contradicts `smarthostIdle = 0`: no connection can wait for its mail",
        ),
        ("timeout = 0", "timeout: '0' is not a number from 1 to 2147483647"),
        ("timeout = -1", "timeout: '-1' is not a number from 1 to 2147483647"),
        ("timeout = 2147483648", "timeout: '2147483648' is not a number from 1 to 2147483647"),
        ("timeout = \uff13", "timeout: '\uff13' is not a number from 1 to 2147483647"),
        ("timeout =", "timeout: '' is not a number from 1 to 2147483647"),
        ("workers = 65", "workers: '65' is not a number from 1 to 64"),
        ("maxSessions = 0", "maxSessions: '0' is not a number from 1 to 10000"),
        ("maxSessions = 10001", "maxSessions: '10001' is not a number from 1 to 10000"),
        ("maxSessionsPerClient = -1", "maxSessionsPerClient: '-1' is not a number from 1 to 10000"),
        ("maxSessionsPerUser = many", "maxSessionsPerUser: 'many' is not a number from 1 to 10000"),
        ("maxUnauthenticated = 10:30:100", "maxUnauthenticated: '10:30:100' is not a number from 1 to 10000"),
        ("maxLoginChecks = 0", "maxLoginChecks: '0' is not a number from 1 to 10000"),
        ("maxFailedLogins = 101", "maxFailedLogins: '101' is not a number from 1 to 100"),
        ("maxErrors = 1001", "maxErrors: '1001' is not a number from 1 to 1000"),
        ("maxRecipients = 0", "maxRecipients: '0' is not a number from 1 to 100000"),
        ("loginTimeout = 3601", "loginTimeout: '3601' is not a number from 1 to 3600"),
        ("loginTimeout = 2m", "loginTimeout: '2m' is not a number from 1 to 3600"),
        ("idleTimeout = 86401", "idleTimeout: '86401' is not a number from 1 to 86400"),
        ("extMessageSize = 10M", "extMessageSize: '10M' is not `disable` or a number of octets (0: no limit)"),
        ("localname = my host", "localname: 'my host' is not a host name in ASCII, as in mail.example.org"),
        ("localname = größe", "localname: 'größe' is not a host name in ASCII, as in mail.example.org"),
        ("runAs = a b", "runAs: 'a b' is not one name; no name has blanks in it"),
        ("validUser = a\tb", "validUser: 'a\\tb' is not one name; no name has blanks in it"),
        ("validUser = %", "validUser: '%' names no group; %staff would be the members of the group staff"),
        (
            "userInclude = /home/%n",
            "userInclude: '/home/%n' has a `%` that is not part of %u (user name), %h (home folder) or %%",
        ),
        (
            "ldapAuthDN = %u",
            "ldapAuthDN: '%u' is not a DN with the user name in it, as in uid=%u,ou=people,dc=example,dc=org",
        ),
        (
            "ldapAuthDN = uid=%u,ou=%h",
            "ldapAuthDN: 'uid=%u,ou=%h' is not a DN with the user name in it, as in uid=%u,ou=people,dc=example,dc=org",
        ),
        (
            "ldapAuthDN = uid=%%u",
            "ldapAuthDN: 'uid=%%u' is not a DN with the user name in it, as in uid=%u,ou=people,dc=example,dc=org",
        ),
        (
            "ldapUri = ldap://a, b",
            "ldapUri: 'ldap://a, b' is not a list of ldap://HOST:PORT or ldaps://HOST:PORT apart by blanks",
        ),
        (
            "smarthostMapping = /home/alice/getmailrc",
            "smarthostMapping: the value is not SOURCE:ARGUMENT, as in getmail:%h/.getmail/getmailrc",
        ),
        (
            "smarthostMapping = getmail:",
            "smarthostMapping: the value is not SOURCE:ARGUMENT, as in getmail:%h/.getmail/getmailrc",
        ),
    ],
)
def test_a_wrong_value_is_refused_with_what_would_be_right(line: str, message: str) -> None:
    assert str(refusal(f"\n{line}")) == f"conf:2: {message}"


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("", "is not ADDRESS:PORT or unix:PATH"),
        ("tls", "is not a port"),
        ("587", "has no address"),
        ("*:587 ssl", "is not ADDRESS:PORT or unix:PATH"),
        ("*:587 tls tls", "is not ADDRESS:PORT or unix:PATH"),
        ("*:", "is not a port: a number from 1 to 65535, smtp, submission, submissions or smtps"),
        ("*:0", "is not a port"),
        ("*:65536", "is not a port"),
        ("*:imap", "is not a port"),
        (":587", "has no address"),
        ("mail.example.org:587", "has no address"),
        ("::1:587", "has no address we know before the port: 192.0.2.1, [2001:db8::1], localhost or * would be right"),
        ("[192.0.2.1]:587", "has no address"),
        ("[::1:587", "has no address"),
        ("1.2.3:587", "has no address"),
        ("unix:run/s", "does not name an absolute path of at most 107 octets"),
        ("unix:/" + "ü" * 54, "does not name an absolute path of at most 107 octets"),
        ("*:465 tls", "`tls` needs sslCert, and sslKey if the key is not in it"),
    ],
)
def test_a_wrong_place_to_listen_is_refused(value: str, reason: str) -> None:
    error = refusal(f"listen = {value}")
    assert (error.origin, error.keyword) == (Origin("conf", 1), "listen")
    assert reason in error.reason


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        ("*", "no address or network; 192.0.2.1 2001:db8::/64 would be right"),
        ("balancer.example.org", "no address or network"),
        ("192.0.2.1,", "no address or network"),
        ("192.0.2.1:587", "no address or network"),
        ("[2001:db8::1]", "no address or network"),
        ("192.0.2", "no address or network"),
        ("192.0.2.01", "no address or network"),
        ("192.0.2.0/33", "no address or network"),
        ("192.0.2.0/", "no address or network"),
        ("192.0.2.0/-1", "no address or network"),
        ("192.0.2.0/٢٤", "no address or network"),
        ("192.0.2.0/255.255.255.0", "no address or network"),
        ("fe80::1%eth0", "no address or network"),
        ("192.0.2.7/24", "an address within a network; 192.0.2.0/24 or 192.0.2.7 would be right"),
        ("::ffff:192.0.2.7", "192.0.2.7 is an IPv4 address, write it so"),
        ("0.0.0.0/0", "which is everybody; only balancers may be believed"),
        ("::/0", "which is everybody; only balancers may be believed"),
    ],
)
def test_a_wrong_balancer_is_refused(word: str, reason: str) -> None:
    error = refusal(f"proxyTrust = 10.0.0.1 {word}")
    assert (error.origin, error.keyword) == (Origin("conf", 1), "proxyTrust")
    assert f"has {word!r} in it" in error.reason
    assert reason in error.reason


@pytest.mark.parametrize("line", ["workers = " + "9" * 4000, "proxyTrust = " + "9" * 4000])
def test_a_long_wrong_value_is_not_quoted_in_full(line: str) -> None:
    assert len(str(refusal(line))) < 250


@pytest.mark.parametrize(
    ("keyword", "message"),
    [
        ("smarthostMaping", "conf:1: smarthostMaping: unknown keyword; smarthostMapping would be right"),
        ("sslcrt", "conf:1: sslcrt: unknown keyword; sslCert would be right"),
        (
            "a\x1bb",
            "conf:1: 'a\\x1bb': unknown keyword; addReceivedField, authBackend, authCache, authMechanisms, cloneEhlo,",
        ),
        ("", "conf:1: unknown keyword; addReceivedField, authBackend, authCache, authMechanisms, cloneEhlo,"),
        ("q" * 100, f"conf:1: '{'q' * 40}': unknown keyword; "),
    ],
)
def test_an_unknown_keyword_is_refused_with_the_one_that_was_meant(keyword: str, message: str) -> None:
    assert str(refusal(f"{keyword} = direct:* h 25 me hunter2")).startswith(message)
    assert "hunter2" not in str(refusal(f"{keyword} = direct:* h 25 me hunter2"))


def test_the_last_of_two_lines_wins_with_a_warning() -> None:
    found = parsed("timeout = 5\nworkers = 2\nTIMEOUT = 7\ntimeout = 9")
    assert found.configuration == replace(DEFAULT, user_settings=UserSettings("host.test", timeout=9), workers=2)
    assert found.warnings == (
        "conf:3: timeout: this line replaces the one at conf:1",
        "conf:4: timeout: this line replaces the one at conf:3",
    )
    assert found.origins == {"timeout": Origin("conf", 4), "workers": Origin("conf", 2)}


def test_an_empty_string_takes_back_an_earlier_line() -> None:
    found = parsed("sslCA = /ca\nrunAs = mail\nsslCA =\nrunAs =")
    assert found.configuration == DEFAULT
    assert found.warnings == (
        "conf:3: sslCA: this line replaces the one at conf:1",
        "conf:4: runAs: this line replaces the one at conf:2",
    )
    assert found.origins == {}


# Mappings


def test_mappings_keep_their_order_and_place() -> None:
    found = parsed("smarthostMapping = GetMail: %h/rc \n\nsmarthostMapping = direct:* h 25 ü \udce4")
    assert found.mappings == (
        Mapping("getmail", Secret(b"%h/rc"), Origin("conf", 1)),
        Mapping("direct", Secret(b"* h 25 \xc3\xbc \xe4"), Origin("conf", 3)),
    )
    assert found.origins["smarthostMapping"] == Origin("conf", 1)


def test_without_mappings_those_of_getmail_and_fetchmail_apply() -> None:
    assert [(m.source, m.argument.octets) for m in parsed("smarthostMapping =").mappings] == [
        ("getmail", b"%h/.getmail/getmailrc"),
        ("fetchmail", b"%h/.fetchmailrc"),
    ]


def test_an_error_in_a_mapping_does_not_quote_it() -> None:
    assert "hunter2" not in str(refusal("smarthostMapping = * h 25 me hunter2"))
    assert "hunter2" not in str(refusal("smarthostMapping = direct:* h 25 me hunter2\x01"))


def test_too_many_mappings_are_refused() -> None:
    line = "smarthostMapping = getmail:x\n"
    assert len(parsed(line * MAX_MAPPINGS).mappings) == MAX_MAPPINGS
    assert "conf:1001: smarthostMapping: at most 1000 are allowed" in str(refusal(line * (MAX_MAPPINGS + 1)))


@pytest.mark.parametrize(
    ("line", "warned"),
    [
        ("direct:* h 25 me hunter#2 tls", True),
        ("Direct:* h 25 me #hunter2 tls", False),
        ("direct:* h 25 me hunter2 tls # to the office", False),
        ("direct:* h 25 me hunter2", False),
        ("getmail:%h/rc#2", False),
    ],
)
def test_a_password_that_seems_to_be_cut_by_a_comment_is_warned_about(line: str, warned: bool) -> None:
    warnings = parsed(f"smarthostMapping = {line}").warnings
    assert bool(warnings) == warned
    assert "hunter" not in "".join(warnings)


# Lines that belong together


def test_the_key_may_be_in_the_file_of_the_certificate() -> None:
    assert configured("sslCert = /both.pem").ssl_key == "/both.pem"
    assert configured("sslKey = /k\nsslCert = /c").ssl_key == "/k"


def test_a_key_without_certificate_is_refused() -> None:
    assert str(refusal("sslKey = /k")) == (
        "conf:1: sslKey: needs sslCert too, the certificate that this key belongs to"
    )


def test_tls_at_once_contradicts_forbidden_encryption() -> None:
    text = "sslCert = /c\nlisten = *:465 tls\nmailerEncryption = forbidden"
    assert str(refusal(text)) == "conf:2: listen: `tls` contradicts `mailerEncryption = forbidden`"


@pytest.mark.parametrize(
    ("text", "warned"),
    [
        ("listen = *:587", ["conf:1: listen"]),
        ("listen = 192.0.2.1:587\nlisten = [2001:db8::1]:587", ["conf:1: listen", "conf:2: listen"]),
        ("listen = localhost:587\nlisten = 127.0.0.2:25\nlisten = unix:/run/s", []),
        ("listen = *:587\nsslCert = /c", []),
        ("listen = localhost:587\nproxyTrust = 127.0.0.1\nproxyTrust = ::1", ["conf:2: proxyTrust"]),
        ("listen = localhost:587\nproxyTrust = 127.0.0.1\nsslCert = /c", []),
        ("listen = localhost:587\nproxyTrust = 127.0.0.1\nmailerEncryption = allowed", []),
        ("listen = *:587\nmailerEncryption = allowed", []),
        ("listen = *:587\nmailerEncryption = forbidden", []),
        ("listen = *:587\nmailerEncryption = required", ["conf:2: mailerEncryption"]),
        ("mailerEncryption = required", ["conf:1: mailerEncryption"]),
        ("mailerEncryption = required\nsslCert = /c", []),
    ],
)
def test_where_nobody_could_log_in_there_is_a_warning(text: str, warned: list[str]) -> None:
    warnings = parsed(text).warnings
    assert [": ".join(warning.split(": ")[:2]) for warning in warnings] == warned
    assert all("without sslCert" in warning for warning in warnings)


@pytest.mark.parametrize(
    ("configuration", "listen", "possible"),
    [
        (DEFAULT, Listen("", 587), False),
        (DEFAULT, Listen("::1", 587), True),
        (replace(DEFAULT, ssl_cert="/c"), Listen("", 587), True),
        (replace(DEFAULT, mailer_encryption=Encryption.ALLOWED), Listen("", 587), True),
        (replace(DEFAULT, mailer_encryption=Encryption.REQUIRED), Listen("::1", 587), False),
    ],
)
def test_a_login_needs_a_certificate_or_a_connection_that_stays_here(
    configuration: Configuration, listen: Listen, possible: bool
) -> None:
    assert login_possible(configuration, listen) is possible


def test_a_relative_user_include_is_warned_about() -> None:
    (warning,) = parsed("userInclude = .sendoowayrc").warnings
    assert warning.startswith("conf:1: userInclude: ")
    assert parsed("userInclude = /etc/%u\n").warnings == ()


# The user's own file


def test_the_users_settings_stand_on_those_of_the_administrator() -> None:
    base = UserSettings("mail.test", timeout=60, ssl_ca="/ca", smarthost_plain=Use.NEVER)
    settings, mappings, warnings = parse_user_include(
        "timeout = 5\nsslCA =\nlocalname = /\n".replace("/", "my.test") + "smarthostMapping = getmail:%h/rc", "rc", base
    )
    assert settings == replace(base, timeout=5, localname="my.test")
    assert mappings == (Mapping("getmail", Secret(b"%h/rc"), Origin("rc", 4)),)
    assert warnings == ()


@pytest.mark.parametrize(
    "keyword",
    [
        "userInclude",
        "sslCert",
        "sslKey",
        "ldapAuthDN",
        "ldapUri",
        "ldapSSLca",
        "authBackend",
        "validUser",
        "mailerEncryption",
        "ext8BitMime",
        "extMessageSize",
        "listen",
        "proxyTrust",
        "workers",
        "runAs",
    ],
)
def test_keywords_of_the_administrator_are_ignored_with_a_warning(keyword: str) -> None:
    base = UserSettings("mail.test")
    assert parse_user_include(f"{keyword.upper()} = \x01 nonsense", "rc", base) == (
        base,
        (),
        (f"rc:1: {keyword}: ignored here, only the administrator may set it",),
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("timeout = hunter2", "rc:1: timeout: the value is not a number from 1 to 2147483647"),
        ("timeot = hunter2", "rc:1: unknown keyword; timeout would be right"),
        ("hunter2 = 1", "rc:1: unknown keyword; addReceivedField, "),
        ("root:hunter2:0:0", "rc:1: the line has no `=`; `keyword = value` would be right"),
        ("smarthostMapping = hunter2", "rc:1: smarthostMapping: the value is not SOURCE:ARGUMENT"),
    ],
)
def test_errors_in_the_users_file_quote_nothing_of_it(text: str, message: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse_user_include(text, "rc", UserSettings("mail.test"))
    assert str(caught.value).startswith(message)
    assert "hunter2" not in str(caught.value)


def test_a_user_hears_of_no_keyword_that_only_the_administrator_may_set() -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse_user_include("hunter2 = 1", "rc", UserSettings("mail.test"))
    told = set(re.findall(r"\w+", str(caught.value))) & {row.name for row in KEYWORDS.values()}
    assert told == {row.name for row in KEYWORDS.values() if row.user}


# Without the secrets

blanks = st.sampled_from(["", " ", "\t", "  \t"])
values = st.one_of(
    st.sampled_from(
        [
            "",
            "yes",
            "no",
            "3",
            "never",
            "/file",
            "alice",
            "%staff",
            "*:587",
            "192.0.2.7",
            "unix:/s",
            "PAM",
            "none",
            "force",
            "required",
        ]
    ),
    st.text(max_size=12),
)
keywords = st.sampled_from(
    [
        "localname",
        "cloneEhlo",
        "timeout",
        "sslCA",
        "sslCert",
        "sslKey",
        "smarthostPlain",
        "validUser",
        "listen",
        "proxyTrust",
        "WORKERS",
        "runAs",
        "authBackend",
        "ext8BitMime",
        "mailerEncryption",
        "extMessageSize",
        "userInclude",
        "other",
    ]
)
lines = st.one_of(
    st.tuples(blanks, keywords, blanks, st.just("="), blanks, values, blanks, st.sampled_from(["", "# c", "#", "\r"])),
    st.tuples(blanks, st.just("SmartHostMapping"), blanks, st.just("= direct:* h 25 me TOPSECRET"), values),
    st.tuples(st.just("smarthostMapping=getmail:TOPSECRET")),
    st.tuples(st.just("workers = 2 # smarthostMapping = direct:* h 25 me TOPSECRET")),
    st.tuples(st.just("# TOPSECRET")),
    st.tuples(st.just("smarthostMaping = TOPSECRET")),
    st.tuples(st.just("TOPSECRET")),
    st.tuples(st.text(max_size=20)),
)
files = st.tuples(st.sampled_from(["", "\ufeff"]), st.lists(lines.map("".join), max_size=6).map("\n".join)).map("".join)


meaningful = st.lists(
    st.sampled_from(
        [
            "smarthostMapping = direct:* h 25 me TOPSECRET",
            "# TOPSECRET",
            "smarthostMapping =",
            *(line for line, _, _ in ADMINISTRATOR_LINES),
            *(line for line, _, _ in USER_LINES),
        ]
    ),
    unique=True,
).map("\n".join)


@given(files | meaningful)
def test_a_redacted_file_means_the_same_and_holds_no_secret(text: str) -> None:
    redacted = redact(text)
    assert "TOPSECRET" not in redacted
    assert redacted.count("\n") == text.count("\n")
    try:
        found = parsed(text)
    except ConfigurationError:
        return
    assert parsed(redacted).configuration == found.configuration
    for keyword, origin in parsed(redacted).origins.items():
        assert found.origins[keyword] == origin


def test_of_a_redacted_file_line_numbers_and_other_values_stay() -> None:
    text = "workers = 2 # two\nsmarthostMapping = direct:* h 25 me pw\n\nrunAs=mail\r\nbad line"
    assert redact(text) == "workers = 2\nsmarthostMapping =\n\nrunAs = mail\n"


@given(st.text(max_size=200) | files)
def test_any_text_is_parsed_or_refused_in_one_line_that_names_the_place(text: str) -> None:
    refusals = []
    try:
        parsed(text)
    except ConfigurationError as error:
        refusals.append(error)
    try:
        parse_user_include(text, "conf", UserSettings("host.test"))
    except ConfigurationError as error:
        refusals.append(error)
    for refused in refusals:
        assert str(refused).startswith("conf:")
        assert str(refused).isprintable()
        assert refused.reason


def test_the_mechanisms_that_may_be_offered_are_those_that_there_are() -> None:
    assert set(MECHANISMS) == {sasl.GSSAPI, *sasl.SERVERS}
