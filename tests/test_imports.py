"""Who may import whom: the drawing of the program, as rules."""

import ast
from collections.abc import Iterable, Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import sendooway

PACKAGE = Path(sendooway.__file__).parent
MODULES = {path.relative_to(PACKAGE).as_posix(): path for path in sorted(PACKAGE.rglob("*.py"))}

# Sans-I/O: what they do can be tested, and told, without a socket, a thread, a clock or a file.
PURE = (
    "smtp/",
    "sasl/",
    "config/__init__.py",
    "config/keywords.py",
    "config/values.py",
    "discovery/search.py",
    "discovery/autoconfig.py",
    "net/proxy_protocol.py",
)
NOT_PURE = {
    "asyncio",
    "logging",
    "multiprocessing",
    "os",
    "pathlib",
    "select",
    "selectors",
    "sendooway.log",
    "sendooway.net",
    "signal",
    "socket",
    "socketserver",
    "ssl",
    "subprocess",
    "threading",
    "time",
}

# What serves the network knows neither accounts nor logins, beyond these plain types.
NETWORK = ("smtp/", "sasl/", "net/", "ldap/", "session.py", "routing.py", "early.py", "smarthost.py")
PLAIN_TYPES = {"sendooway.accounts.account", "sendooway.auth.identity"}


@cache
def imported(path: Path, *, late: bool = True) -> tuple[str, ...]:
    """The modules that a file imports anywhere in it, with the names that `from` takes out of them: `a`, `a.b`. Without
    `late`, only those that it imports when it is imported itself."""
    module = ast.parse(path.read_bytes())
    return tuple(_imported(path, ast.walk(module) if late else module.body))


def _imported(path: Path, nodes: Iterable[ast.AST]) -> Iterator[str]:
    parent = ("sendooway", *path.relative_to(PACKAGE).parts[:-1])
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = [*parent[: len(parent) - node.level + 1], node.module] if node.level else [node.module]
            module = ".".join(part for part in base if part)
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names)


def importers(module: str) -> list[str]:
    return [name for name, path in MODULES.items() if any(within(found, {module}) for found in imported(path))]


def within(module: str, packages: set[str]) -> bool:
    return any(module == package or module.startswith(f"{package}.") for package in packages)


@pytest.mark.parametrize("name", [name for name in MODULES if name.startswith(PURE)])
def test_protocol_modules_do_no_io(name: str) -> None:
    assert [module for module in imported(MODULES[name]) if within(module, NOT_PURE)] == []


@pytest.mark.parametrize("name", [name for name in MODULES if name.startswith(NETWORK)])
def test_the_network_side_knows_no_accounts_and_logins_beyond_plain_types(name: str) -> None:
    forbidden = [
        module
        for module in imported(MODULES[name])
        if within(module, {"sendooway.accounts", "sendooway.auth"})
        and not within(module, PLAIN_TYPES)
        # `from sendooway.accounts import account` names the package too.
        and module not in {"sendooway.accounts", "sendooway.auth"}
    ]
    assert forbidden == []


def test_no_module_needs_itself_to_be_imported() -> None:
    modules = {name.removesuffix(".py").removesuffix("/__init__").replace("/", "."): MODULES[name] for name in MODULES}
    needs = {
        name: {found.removeprefix("sendooway.") for found in imported(path, late=False)} & modules.keys() - {name}
        for name, path in modules.items()
    }
    assert tuple(TopologicalSorter(needs).static_order())  # or else it raises CycleError, which names them


def test_no_folder_needs_itself_to_be_imported() -> None:
    folders = {name.removesuffix(".py").partition("/")[0] for name in MODULES}
    needs: dict[str, set[str]] = {folder: set() for folder in folders}
    for name, path in MODULES.items():
        folder = name.removesuffix(".py").partition("/")[0]
        found = {module.split(".")[1] for module in imported(path, late=False) if module.startswith("sendooway.")}
        needs[folder] |= found & folders - {folder}
    assert tuple(TopologicalSorter(needs).static_order())


def test_what_the_system_is_to_us_knows_nothing_of_what_it_is_for() -> None:
    found = {module for name in MODULES if name.startswith("unix/") for module in imported(MODULES[name])}
    ours = {module for module in found if within(module, {"sendooway"})} - {"sendooway"}
    assert [module for module in ours if not within(module, {"sendooway.unix", "sendooway.log"})] == []


def test_pam_is_imported_in_one_module() -> None:
    assert set(importers("pam")) <= {"auth/pam.py"}


def test_ldap_servers_are_asked_by_one_module() -> None:
    assert importers("sendooway.ldap.client") == ["auth/ldap.py"]


def test_gssapi_is_imported_in_one_module() -> None:
    assert importers("gssapi") == ["auth/kerberos.py"]


def test_certifi_is_imported_in_one_module() -> None:
    names = importers("certifi")
    assert len(names) <= 1
    assert all(name.startswith("net/") for name in names)


def test_dnspython_is_imported_in_one_module() -> None:
    assert importers("dns") == ["discovery/dns.py"]


@pytest.mark.parametrize("name", ["discovery", "commands"])
def test_what_people_ask_for_is_nothing_that_a_server_imports(name: str) -> None:
    users = {user for user in importers(f"sendooway.{name}") if not user.startswith(("discovery/", "commands/"))}
    assert users <= {"cli.py", "privsep/guess.py"}


@pytest.mark.parametrize("module", ["pickle", "marshal", "shelve"])
def test_nothing_unpickles(module: str) -> None:
    assert importers(module) == []


@pytest.mark.parametrize("module", ["smtplib", "asyncio", "logging", "argparse"])
def test_what_starts_slowly_or_is_too_lenient_stays_out(module: str) -> None:
    assert importers(module) == []


@pytest.mark.parametrize(
    "module", ["config/__init__", "config/file", "config/keywords", "config/values", "options", "log", "secret"]
)
def test_what_every_start_imports_is_cheap(module: str) -> None:
    heavy = {"typing", "socket", "ssl", "email", "subprocess", "ctypes", "json", "difflib", "threading"}
    names = [
        alias.name if isinstance(node, ast.Import) else str(node.module)
        for node in ast.parse(MODULES[f"{module}.py"].read_bytes()).body
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    ]
    assert [name for name in names if within(name, heavy)] == []


def test_what_comes_before_the_greeting_imports_next_to_nothing() -> None:
    cheap = {"_signal", "os", "stat", "pwd", "sendooway", "sendooway.assignment", "sendooway.unix.run_as"}
    names = {"greeting.py", "assignment.py", "unix/run_as.py", "unix/__init__.py", "__init__.py"}
    found = {module for name in names for module in imported(MODULES[name])}
    assert found - cheap == {"sendooway.unix.run_as.network_user"}


def names_used(path: Path) -> Iterator[str]:
    """Names that a file imports, and attributes that it asks modules for: `time.time`."""
    yield from imported(path)
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            yield f"{node.value.id}.{node.attr}"


# The clock of the day may be set while a session waits. It is for the log, for Received, for certificates, and for the
# age of files.
CLOCK_OF_THE_DAY = {"time.time", "time.time_ns", "time.localtime", "time.gmtime", "time.strftime", "datetime"}
MAY_ASK_IT = {
    "accounts/user_file.py": {"time.time_ns"},
    "log.py": {"time.time", "time.gmtime", "time.strftime"},
    "session.py": {"time.localtime", "time.strftime"},
    "commands/trial.py": {"time.time"},
}


@pytest.mark.parametrize("name", MODULES)
def test_no_wait_depends_on_the_clock_of_the_day(name: str) -> None:
    asked = {found for found in names_used(MODULES[name]) if within(found, CLOCK_OF_THE_DAY)}
    assert asked <= MAY_ASK_IT.get(name, set())
