"""The command line: what it says, and what that makes of the configuration. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from getopt import GetoptError, gnu_getopt

from sendooway.config import Configuration, Listen
from sendooway.config.values import parse_port

HELP = """\
Usage: sendooway [OPTION]...
   or: sendooway COMMAND [ARGUMENT]...
Log in once, and send each mail through the smarthost of its sender address.

  -c, --config FILE   the configuration (default: /etc/sendooway.conf);
                      -c /dev/null runs on defaults
  -b, --bind PORT     listen on this TCP port, on all IPv4 and IPv6 addresses,
                      instead of where the `listen` lines of FILE say
  -i, --inetd         standard input is the connection; so it is without -b
                      where FILE has no `listen` line. Sockets of systemd
                      (LISTEN_FDS) need neither
  -s, --ssl           TLS from the first octet (submissions, port 465)
  -S, --nossl         the connection is safe already: offer and demand no TLS
  -l, --log FILE      append the log to FILE instead of syslog;
                      \\&2 means standard error
      --check-config  read the configuration, say what is wrong, and end
      --print-config  print a configuration of all keywords with their
                      defaults, as comments, and end
  -h, --help          show this help, and end
  -V, --version       show the version, and end; with --verbose also those of
                      packages and libraries

Commands, for every user; `sendooway COMMAND --help` tells more:

  accounts            show every identity that your account files give
  explain ADDRESS     say which account serves a sender, and why
  check [ADDRESS]...  try the accounts out, without sending a mail
  discover [ADDRESS]...
                      find the smarthost of a mailbox, and propose an account

Exit status: 0; 64 for a wrong command line; 78 for a wrong configuration.
See sendooway(1) and sendooway.conf(5).
"""

_SHORT = "hVc:b:sSl:i"
_LONG = [
    "help",
    "version",
    "config=",
    "bind=",
    "ssl",
    "nossl",
    "log=",
    "inetd",
    "check-config",
    "print-config",
    "verbose",
]


@dataclass(frozen=True)
class Options:
    """One command line. `log` is as `log.open_log` takes it. `bind` is a TCP port; None: no -b."""

    config: str = "/etc/sendooway.conf"
    bind: int | None = None
    tls: bool = False
    no_tls: bool = False
    log: str | None = None
    inetd: bool = False
    check_config: bool = False
    print_config: bool = False
    help: bool = False
    version: bool = False
    verbose: bool = False


class UsageError(Exception):
    """The command line makes no sense; its str is one line that says why."""


def parse_options(argv: list[str]) -> Options:
    """Read the arguments that follow the program's name. Of an option given twice, the last counts.

    Raises UsageError for an unknown option, a missing, needless or wrong value, a surplus argument, and options
    that exclude each other.
    """
    try:
        pairs, rest = gnu_getopt(argv, _SHORT, _LONG)
    except GetoptError as error:
        raise UsageError(error.msg) from None
    options = Options()
    for option, value in pairs:
        options = replace(options, **_meaning(option, value))  # type: ignore[arg-type]
    if rest:
        raise UsageError(f"unexpected argument {rest[0]!r}")
    if options.tls and options.no_tls:
        raise UsageError("-s (TLS at once) and -S (no TLS) exclude each other")
    if options.inetd and options.bind is not None:
        raise UsageError("-i (standard input is the connection) and -b (listen) exclude each other")
    if options.verbose and not options.version:
        raise UsageError("--verbose belongs to --version")
    return options


def _meaning(option: str, value: str) -> dict[str, object]:
    match option:
        case "-c" | "--config":
            return {"config": _filled(option, value)}
        case "-b" | "--bind":
            try:
                return {"bind": parse_port(value)}
            except ValueError as error:
                raise UsageError(f"{option}: {value!r} {error}") from None
        case "-s" | "--ssl":
            return {"tls": True}
        case "-S" | "--nossl":
            return {"no_tls": True}
        case "-l" | "--log":
            return {"log": _filled(option, value)}
        case "-i" | "--inetd":
            return {"inetd": True}
        case "--check-config":
            return {"check_config": True}
        case "--print-config":
            return {"print_config": True}
        case "--verbose":
            return {"verbose": True}
        case "-h" | "--help":
            return {"help": True}
        case _:
            return {"version": True}


def _filled(option: str, value: str) -> str:
    if not value:
        raise UsageError(f"{option}: the name of a file is empty")
    return value


def endpoints(options: Options, configuration: Configuration, inherited: Sequence[Listen] = ()) -> tuple[Listen, ...]:
    """Where to listen; empty: standard input and output are the connection.

    -i, -b and `inherited` sockets replace the `listen` lines: what was said for this one start is the more explicit. -s
    makes each socket TLS from the first octet. Raises UsageError where a socket is to have TLS and there is no
    certificate, where -S contradicts that, and for inherited sockets with -i or -b.
    """
    if options.tls and not configuration.ssl_cert:
        raise UsageError(f"-s (TLS at once) needs sslCert in {options.config}")
    if inherited:
        return _inherited_endpoints(options, configuration, inherited)
    if options.inetd:
        return ()
    if options.bind is not None:
        return (Listen(port=options.bind, tls=options.tls),)
    if options.no_tls and any(listen.tls for listen in configuration.listen):
        raise UsageError(f"-S (no TLS) contradicts a `listen` line with `tls` in {options.config}")
    return _secured(options, configuration.listen)


def _inherited_endpoints(
    options: Options, configuration: Configuration, inherited: Sequence[Listen]
) -> tuple[Listen, ...]:
    if options.inetd:
        raise UsageError("-i needs a connection, and LISTEN_FDS has listening sockets: leave it out, or set Accept=yes")
    if options.bind is not None:
        raise UsageError("-b (listen) and listening sockets in LISTEN_FDS exclude each other")
    if any(listen.tls for listen in inherited):
        if options.no_tls:
            raise UsageError("-S (no TLS) contradicts a socket in LISTEN_FDS that is named for TLS")
        if not configuration.ssl_cert:
            raise UsageError(f"a socket in LISTEN_FDS that is named for TLS needs sslCert in {options.config}")
    return _secured(options, inherited)


def _secured(options: Options, listens: Sequence[Listen]) -> tuple[Listen, ...]:
    return tuple(replace(listen, tls=listen.tls or options.tls) for listen in listens)
