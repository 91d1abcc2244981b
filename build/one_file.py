"""Make the one file out of what shiv has put together: build/one_file.py ZIPAPP FILE.

shiv collects the packages. What it starts with unpacks all of them before anything runs, and does as the environment
says (SHIV_ROOT, SHIV_ENTRY_POINT ...), which a program that root starts must not. So this takes the packages and:

- puts build/main.py in front of them: Python then imports them from within the file;
- puts the octets that Python runs (.pyc) beside each source, for the Python that builds. Its hash is not checked at run
  time; another Python passes it over and reads the source. To inflate them costs 2 ms and saves 330,000 octets. They
  are without docstrings, which only the sources are read for;
- leaves out the .pyc of packages that no server comes to, and of dnspython what looking for SRV records does not need;
- puts packages with shared objects, which the system can only load from its own files, one behind the other into one
  piece for `sendooway.one_file`: they are much alike, so that xz halves what zip would make of them;
- adds what the file is made of (`sendooway.about`) and everybody's licence.

SOURCE_DATE_EPOCH is the time of all that is in it: the same sources make the same octets.
"""

import ast
import hashlib
import importlib._bootstrap_external as bootstrap
import importlib.util
import io
import json
import lzma
import os
import stat
import subprocess
import sys
import time
import zipfile
from email.parser import HeaderParser
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SHEBANG = b"#!/usr/bin/python3 -IS\n"
PACKAGES = "site-packages/"
FIRST_SECOND = 315532800  # of 1980: a zip file knows no time before
# gssapi has the shared objects, and nobody else needs decorator.
NATIVE = ("gssapi", "decorator")
# Only people's commands import it.
UNHURRIED = ("dns",)
# What packages import only for what we do not ask of them. gssapi does without each of its extensions.
UNUSED = (
    "dns/asyncresolver.",
    "dns/btree",
    "dns/dnssec",
    "dns/quic/_a",
    "dns/quic/_c",
    "dns/quic/_s",
    "dns/quic/_t",
    "dns/rdtypes/CH/",
    "dns/tsigkeyring.",
    "dns/versioned.",
    "dns/win32util.",
    "dns/zone",
    "gssapi/raw/ext_dce",
    "gssapi/raw/ext_ggf",
    "gssapi/raw/ext_iov_mic",
    "gssapi/raw/ext_krb5",
    "gssapi/raw/ext_password",
    "gssapi/raw/ext_rfc5801",
    "gssapi/raw/ext_rfc6680",
    "gssapi/raw/ext_set_cred_opt",
    "gssapi/tests/",
)
# Types of records; others it takes for unknown ones.
RECORDS = {"__init__", "A", "AAAA", "CNAME", "NS", "OPT", "PTR", "SOA", "SRV", "TSIG"}
# Nothing that runs.
LEFT_OUT = (".pyi", ".pyx", ".pxd", "py.typed", "/RECORD", "/INSTALLER", "/WHEEL", "/REQUESTED", "/direct_url.json")
LICENCE_NAMES = ("LICENSE", "LICENCE", "COPYING", "NOTICE", "AUTHORS")


class Archive:
    """A zip file whose octets depend on nothing but what is put into it."""

    def __init__(self, seconds: int) -> None:
        self._octets = io.BytesIO()
        self._octets.write(SHEBANG)
        self._zip = zipfile.ZipFile(self._octets, "w")
        self._time = time.gmtime(max(seconds, FIRST_SECOND))[:6]

    def add(self, name: str, octets: bytes, *, compressed: bool = True) -> None:
        entry = zipfile.ZipInfo(name, self._time)
        entry.create_system = 3  # UNIX
        entry.external_attr = (stat.S_IFREG | 0o644) << 16
        entry.compress_type = zipfile.ZIP_DEFLATED if compressed else zipfile.ZIP_STORED
        self._zip.writestr(entry, octets, compresslevel=9)

    def octets(self) -> bytes:
        self._zip.close()
        return self._octets.getvalue()


def without_docstrings(source: bytes) -> ast.Module:
    module = ast.parse(source)
    for node in ast.walk(module):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            match node.body:
                case [ast.Expr(value=ast.Constant(value=str())) as first, *_]:
                    # For a class without any, dataclasses takes a while to make one.
                    first.value = ast.Constant("-" if isinstance(node, ast.ClassDef) else None)
    return ast.fix_missing_locations(module)


def compiled(name: str, source: bytes) -> bytes:
    # The name is what a traceback shows; it is the same wherever the file is.
    code = compile(without_docstrings(source), f"sendooway:{name}", "exec", dont_inherit=True)
    return bytes(bootstrap._code_to_hash_pyc(code, importlib.util.source_hash(source), False))


def commit() -> str:
    """The short name of what is built, with `+` behind it if something is changed; empty where there is no git."""

    def git(*arguments: str) -> str:
        return subprocess.run(["git", *arguments], cwd=ROOT, check=True, capture_output=True, text=True).stdout.strip()

    try:
        return git("rev-parse", "--short=12", "HEAD") + ("+" if git("status", "--porcelain") else "")
    except (OSError, subprocess.CalledProcessError):
        return ""


def read_packages(zipapp: Path) -> dict[str, bytes]:
    """By path below site-packages, what runs and what describes it, in the order of the paths."""
    with zipfile.ZipFile(zipapp) as packed:
        names = sorted(name for name in packed.namelist() if name.startswith(PACKAGES) and not name.endswith("/"))
        found = {name.removeprefix(PACKAGES): packed.read(name) for name in names}
    return {
        name: octets
        for name, octets in found.items()
        if not name.endswith((".pyc", *LEFT_OUT))
        and not name.startswith(("bin/", *UNUSED))
        and (not name.startswith(("dns/rdtypes/ANY/", "dns/rdtypes/IN/")) or Path(name).stem in RECORDS)
    }


def main(zipapp: Path, target: Path) -> None:
    archive = Archive(int(os.environ["SOURCE_DATE_EPOCH"]))
    versions, manifest, native = {}, [], []
    archive.add("__main__.py", source := (ROOT / "build/main.py").read_bytes())
    archive.add("__main__.pyc", compiled("__main__.py", source))
    for name, octets in read_packages(zipapp).items():
        top = name.partition("/")[0]
        if top.endswith(".dist-info"):
            if name == f"{top}/METADATA":
                header = HeaderParser().parsestr(octets.decode())
                versions[header["Name"]] = header["Version"]
            if Path(name).name.upper().startswith(LICENCE_NAMES):
                archive.add(f"licenses/{top.partition('-')[0]}/{Path(name).name}", octets)
        elif top.removesuffix(".py") in NATIVE:
            native.append(octets)
            manifest.append(f"{len(octets)} {name}\n")
        else:
            if name.endswith(".so"):
                sys.exit(f"{sys.argv[0]}: {name} cannot run from within the file: its package belongs into NATIVE")
            archive.add(name, octets)
            if name.endswith(".py") and top not in UNHURRIED:
                archive.add(f"{name}c", compiled(name, octets))
    about = {"commit": commit(), "packages": {name: versions[name] for name in sorted(versions) if name != "sendooway"}}
    archive.add("about.json", json.dumps(about, indent=1).encode())
    if manifest:
        # The same packages have the same digest in every build, and so need to be unpacked only once.
        packed = lzma.compress(b"".join(native), preset=9 | lzma.PRESET_EXTREME)
        archive.add("native.xz", packed, compressed=False)
        digest = hashlib.sha256(packed).hexdigest()
        archive.add("native.txt", f"{digest}\n{''.join(manifest)}".encode(), compressed=False)
    target.write_bytes(archive.octets())
    target.chmod(0o755)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
