"""The command `sendooway`: look at the command line, then hand over to the daemon."""

import os
import sys
from collections.abc import Callable

from sendooway.config import ConfigurationError, Mapping, Parsed, login_possible
from sendooway.config.file import exposure, read
from sendooway.config.keywords import parse
from sendooway.greeting import Greeter, hear_of_children
from sendooway.options import HELP, Options, UsageError, endpoints, parse_options
from sendooway.unix.run_as import RunAsError, network_user

# The exit status of a program that a signal has ended, as shells have it.
_SIGINT, _SIGPIPE = 128 + 2, 128 + 13


def main(argv: list[str] | None = None, greeter: Greeter | None = None) -> int:
    """Run the command with these arguments (None: those of the process) and return its exit status.

    `greeter` may have greeted the client of a super-server already. The status is 64 for a wrong command line, 78 for
    a wrong configuration, 74 for an answer that cannot be written, each with a message of one line on standard error;
    else that of the command or the daemon.
    """
    argv = sys.argv[1:] if argv is None else argv
    hear_of_children()
    _open_closed_streams()
    try:
        if argv and not argv[0].startswith("-"):
            return _printed(lambda: _ask(argv[0], argv[1:]))
        options = parse_options(argv)
        if options.help or options.version or options.print_config or options.check_config:
            return _printed(lambda: _tell(options))
        # Only now, so that the answers above are quick. The daemon reads the configuration itself, in a process of
        # its own: the one that serves the network never has its passwords in memory.
        from sendooway import daemon

        return daemon.run(options, greeter or Greeter())
    except UsageError as error:
        from sendooway import daemon

        return daemon.refuse(f"{error} (--help shows all options)")
    except ConfigurationError as error:
        print(f"sendooway: {error}", file=sys.stderr)
        return os.EX_CONFIG


def _open_closed_streams() -> None:
    # Python has None for a stream that was closed, and takes that for standard output where it is to print.
    sys.stdout = sys.stdout or open(os.devnull, "w")  # noqa: SIM115
    sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: SIM115


def _printed(answer: Callable[[], int]) -> int:
    """Print an answer. Returns what `answer` does, unless it is interrupted or cannot be written."""
    try:
        status = answer()
        sys.stdout.flush()
    except KeyboardInterrupt:
        return _SIGINT
    except OSError as error:
        # Python must not try again at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):
            # Whoever reads has had enough, as `head` has.
            return _SIGPIPE
        print(f"sendooway: cannot write the answer: {error.strerror}", file=sys.stderr)
        return os.EX_IOERR
    return status


def _ask(name: str, argv: list[str]) -> int:
    """Run the command of this name. Raises UsageError, ConfigurationError."""
    from sendooway import commands

    if name not in commands.NAMES:
        raise UsageError(f"{name!r} is no command; there are {', '.join(commands.NAMES)}")
    return commands.run(name, argv)


def _tell(options: Options) -> int:
    """Print what one of the options asks for that serve nobody. Raises UsageError, ConfigurationError."""
    if options.help:
        print(HELP, end="")
    elif options.version:
        from sendooway import about

        print(about.describe() if options.verbose else f"sendooway {about.version()}\n", end="")
    elif options.print_config:
        from sendooway.sample import SAMPLE

        print(SAMPLE, end="")
    else:
        return _check_config(options)
    return os.EX_OK


def _check_config(options: Options) -> int:
    """Read all that the configuration names, as the daemon would; raises what is wrong."""
    parsed = parse(read(options.config), options.config, os.uname().nodename)
    listens = endpoints(options, parsed.configuration)
    _check_mappings(parsed.mappings)
    _check_run_as(parsed)
    _open_files(parsed)
    warnings = list(parsed.warnings)
    if (exposed := exposure(options.config, parsed.mappings)) is not None:
        warnings.append(exposed)
    if options.bind is not None and not options.no_tls:
        # For `listen` lines, parse has warned.
        warnings.extend(
            f"-b {listen.port}: without sslCert nobody can log in here over a network; "
            "set sslCert and sslKey, or give -S if the connection is safe already"
            for listen in listens
            if not login_possible(parsed.configuration, listen)
        )
    for warning in warnings:
        print(f"warning: {warning}", file=sys.stderr)
    print(f"{options.config}: ok")
    return os.EX_OK


def _check_mappings(mappings: tuple[Mapping, ...]) -> None:
    """Raise ConfigurationError for the first mapping that no user could use; users' files are not looked at."""
    from sendooway.accounts.account import AccountsError
    from sendooway.accounts.lookup import list_accounts
    from sendooway.accounts.user_file import NoFiles
    from sendooway.auth.identity import Identity

    anybody = Identity("user", 0, 0, "/home/user")
    for mapping in mappings:
        try:
            list_accounts(mapping, anybody, NoFiles())
        except AccountsError as error:
            raise ConfigurationError(error.origin, "smarthostMapping", error.reason) from None


def _check_run_as(parsed: Parsed) -> None:
    """Raise ConfigurationError for a user that the proxy cannot become."""
    name = parsed.configuration.run_as
    if not name:
        return
    try:
        network_user(name)
    except RunAsError as error:
        raise ConfigurationError(parsed.origins["runAs"], "runAs", str(error)) from None


def _open_files(parsed: Parsed) -> None:
    """Raise ConfigurationError for the first file that the configuration names and that cannot be used."""
    from sendooway.net.tls import TlsError, client_context, server_context

    configuration = parsed.configuration
    trusted = {"sslCA": configuration.user_settings.ssl_ca, "ldapSSLca": configuration.ldap_ssl_ca}
    own = {"sslCert": configuration.ssl_cert, "sslKey": configuration.ssl_key}

    def wrong(keyword: str, reason: str) -> ConfigurationError:
        return ConfigurationError(parsed.origins[keyword], keyword, reason)

    for keyword, path in (own | trusted | {"krb5Keytab": configuration.krb5_keytab}).items():
        if keyword not in parsed.origins:
            continue
        try:
            os.close(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK))
        except OSError as error:
            reason = f"cannot read {path!r}: {error.strerror}; the name of a readable file would be right"
            raise wrong(keyword, reason) from None
    for keyword, path in trusted.items():
        try:
            if keyword in parsed.origins:
                client_context(path)
        except TlsError as error:
            raise wrong(keyword, f"{error}; certificates in PEM form would be right") from None
    try:
        if configuration.ssl_cert:
            server_context(configuration.ssl_cert, configuration.ssl_key)
    except TlsError as error:
        raise wrong("sslCert", f"{error}; a chain and its own key in PEM form would be right") from None
