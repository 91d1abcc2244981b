"""What this program is made of, and what it finds on this machine: `sendooway --version --verbose`."""

import json
import platform
import sys

from sendooway import __version__, one_file


def version() -> str:
    """The version; in the one file with the commit that it was made of, and `+` for changes that were not committed."""
    commit = _built()["commit"]
    return f"{__version__} ({commit})" if commit else __version__


def describe() -> str:
    """Lines of `NAME VALUE`: the packages with their versions, and the libraries of the system, found or not."""
    import ssl

    lines = [f"sendooway {version()}"]
    lines += [f"{name} {number}" for name, number in _packages().items()]
    lines.append(f"Python {platform.python_version()} ({sys.executable})")
    lines.append(ssl.OPENSSL_VERSION)
    lines += [_library(name, soname) for name, soname in (("libkrb5", "libkrb5.so.3"), ("libpam", "libpam.so.0"))]
    return "\n".join(lines) + "\n"


def _built() -> dict[str, object]:
    """What `make dist` has noted: the `commit` and, by name, the versions of `packages`. In a folder: nothing."""
    octets = one_file.read("about.json")
    return {"commit": "", "packages": None} if octets is None else dict(json.loads(octets))


def _packages() -> dict[str, str]:
    packages = _built()["packages"]
    if isinstance(packages, dict):
        return packages
    from importlib.metadata import PackageNotFoundError
    from importlib.metadata import version as installed

    found = {}
    for name in ("certifi", "dnspython", "gssapi", "python-pam"):
        try:
            found[name] = installed(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def _library(name: str, soname: str) -> str:
    import ctypes

    try:
        ctypes.CDLL(soname)
    except OSError:
        return f"{name} not found ({soname})"
    return f"{name} found ({soname})"
