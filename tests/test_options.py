"""The command line, and where it makes the program listen."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sendooway.config import Configuration, Listen, UserSettings
from sendooway.options import HELP, Options, UsageError, endpoints, parse_options


@pytest.mark.parametrize(
    ("line", "options"),
    [
        ("", Options()),
        ("-c /dev/null -l &2", Options(config="/dev/null", log="&2")),
        ("-c/dev/null -l&2", Options(config="/dev/null", log="&2")),
        ("--config=/dev/null --log=&2", Options(config="/dev/null", log="&2")),
        ("--config /dev/null --log &2", Options(config="/dev/null", log="&2")),
        ("-b 587 -l /var/log/sendooway.log", Options(bind=587, log="/var/log/sendooway.log")),
        ("-b587 -s", Options(bind=587, tls=True)),
        ("-sb587", Options(bind=587, tls=True)),
        ("--bind=submissions --ssl", Options(bind=465, tls=True)),
        ("-S -i", Options(no_tls=True, inetd=True)),
        ("-Si", Options(no_tls=True, inetd=True)),
        ("--nossl --inetd", Options(no_tls=True, inetd=True)),
        ("--check-config -c x", Options(config="x", check_config=True)),
        ("-h", Options(help=True)),
        ("--help", Options(help=True)),
        ("-V", Options(version=True)),
        ("-V --verbose", Options(version=True, verbose=True)),
        ("--print-config", Options(print_config=True)),
        ("--version", Options(version=True)),
        ("-c a -c b -b 1 -b 2", Options(config="b", bind=2)),
        ("-i --", Options(inetd=True)),
    ],
)
def test_options_are_read_in_gnu_style(line: str, options: Options) -> None:
    assert parse_options(line.split()) == options


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("-x", "option -x not recognized"),
        ("--no-such", "option --no-such not recognized"),
        ("-c", "option -c requires argument"),
        ("--log", "option --log requires argument"),
        ("--ssl=yes", "option --ssl must not have an argument"),
        ("--config=", "--config: the name of a file is empty"),
        ("-b 0", "-b: '0' is not a port: a number from 1 to 65535, smtp, submission, submissions or smtps"),
        ("--bind=imap", "--bind: 'imap' is not a port: "),
        ("conf", "unexpected argument 'conf'"),
        ("-i -- -s", "unexpected argument '-s'"),
        ("--verbose", "--verbose belongs to --version"),
        ("-s -S", "-s (TLS at once) and -S (no TLS) exclude each other"),
        ("-i -b 25", "-i (standard input is the connection) and -b (listen) exclude each other"),
    ],
)
def test_a_command_line_without_sense_is_refused_with_the_reason(line: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_options(line.split())
    assert str(caught.value).startswith(message)


def test_an_empty_file_name_is_refused() -> None:
    with pytest.raises(UsageError, match="-l: the name of a file is empty"):
        parse_options(["-l", ""])


@given(st.lists(st.text(max_size=6) | st.sampled_from(["-b", "-l", "--bind", "--ssl", "-sS", "-ic", "--"])))
def test_any_arguments_give_options_or_the_documented_error(argv: list[str]) -> None:
    try:
        options = parse_options(argv)
    except UsageError:
        return
    assert options.bind is None or 1 <= options.bind <= 65535


def test_the_help_names_every_option_and_fits_a_terminal() -> None:
    for option in ["-c, --config FILE", "-b, --bind PORT", "-i, --inetd", "-s, --ssl", "-S, --nossl", "-l, --log FILE"]:
        assert f"\n  {option}  " in HELP
    for option in ["-h, --help", "-V, --version", "    --check-config"]:
        assert f"\n  {option}  " in HELP
    assert max(map(len, HELP.splitlines())) < 80


CLEAR = Configuration(UserSettings("host.test"), listen=(Listen("::1", 587), Listen("", 465, tls=True)))
SECURE = replace(CLEAR, ssl_cert="/c", ssl_key="/k")
PIPE = replace(SECURE, listen=())


@pytest.mark.parametrize(
    ("options", "configuration", "listens"),
    [
        (Options(), PIPE, ()),
        (Options(tls=True), PIPE, ()),
        (Options(), CLEAR, CLEAR.listen),
        (Options(no_tls=True), replace(CLEAR, listen=CLEAR.listen[:1]), CLEAR.listen[:1]),
        (Options(no_tls=True, inetd=True), CLEAR, ()),
        (Options(no_tls=True, bind=25), CLEAR, (Listen("", 25),)),
        (Options(tls=True), SECURE, (Listen("::1", 587, tls=True), Listen("", 465, tls=True))),
        (Options(inetd=True), CLEAR, ()),
        (Options(bind=25), CLEAR, (Listen("", 25),)),
        (Options(bind=25), PIPE, (Listen("", 25),)),
        (Options(bind=465, tls=True), SECURE, (Listen("", 465, tls=True),)),
    ],
)
def test_the_command_line_decides_before_the_configuration(
    options: Options, configuration: Configuration, listens: tuple[Listen, ...]
) -> None:
    assert endpoints(options, configuration) == listens


INHERITED = (Listen("::", 587, inherited=True), Listen(path="/run/mail", inherited=True))
INHERITED_TLS = (*INHERITED, Listen("::", 465, tls=True, inherited=True))


@pytest.mark.parametrize(
    ("options", "configuration", "inherited", "listens"),
    [
        (Options(), PIPE, INHERITED, INHERITED),
        (Options(), CLEAR, INHERITED, INHERITED),
        (Options(), SECURE, INHERITED_TLS, INHERITED_TLS),
        (Options(no_tls=True), SECURE, INHERITED, INHERITED),
        (Options(tls=True), SECURE, INHERITED[:1], (Listen("::", 587, tls=True, inherited=True),)),
    ],
)
def test_inherited_sockets_replace_listen_lines(
    options: Options, configuration: Configuration, inherited: tuple[Listen, ...], listens: tuple[Listen, ...]
) -> None:
    assert endpoints(options, configuration, inherited) == listens


@pytest.mark.parametrize(
    ("options", "configuration", "message"),
    [
        (Options(), CLEAR, "a socket in LISTEN_FDS that is named for TLS needs sslCert in /etc/sendooway.conf"),
        (Options(no_tls=True), SECURE, "-S (no TLS) contradicts a socket in LISTEN_FDS that is named for TLS"),
        (Options(bind=25), SECURE, "-b (listen) and listening sockets in LISTEN_FDS exclude each other"),
        (Options(inetd=True), SECURE, "-i needs a connection, and LISTEN_FDS has listening sockets: "),
    ],
)
def test_inherited_sockets_that_contradict_the_rest_are_refused(
    options: Options, configuration: Configuration, message: str
) -> None:
    with pytest.raises(UsageError) as caught:
        endpoints(options, configuration, INHERITED_TLS)
    assert str(caught.value).startswith(message)


def test_tls_at_once_needs_a_certificate() -> None:
    with pytest.raises(UsageError, match=r"-s \(TLS at once\) needs sslCert in /etc/sendooway.conf"):
        endpoints(Options(tls=True), CLEAR)


def test_no_tls_contradicts_a_listen_line_with_tls() -> None:
    with pytest.raises(UsageError, match=r"-S .* contradicts a `listen` line with `tls` in /etc/sendooway\.conf"):
        endpoints(Options(no_tls=True), SECURE)
