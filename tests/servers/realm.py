"""Kerberos realms: real KDCs of MIT krb5, on loopback only, with a database and a configuration of their own."""

import shutil
import subprocess
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any

from servers.processes import free_port

_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
_PROGRAMS = ("krb5kdc", "kdb5_util", "kadmin.local", "kinit", "krb5-config")


def why_not() -> str:
    """Why there can be no realm here; empty where there can."""
    missing = [name for name in _PROGRAMS if not shutil.which(name, path=_PATH)]
    missing += [f"the Python package {name}" for name in ("gssapi", "k5test") if find_spec(name) is None]
    return f"not installed: {', '.join(missing)}" if missing else ""


class Realm:
    """A realm inside of a `with`. `folder` has to exist; `configuration` is its krb5.conf.

    The user sendooway-NAME is who NAME@REALM is by its rules, as the users of the tests are called.
    """

    def __init__(self, folder: Path, name: str = "EXAMPLE.TEST") -> None:
        self.folder = folder
        self.name = name
        self.configuration = folder / f"{name}.krb5.conf"

    def __enter__(self) -> "Realm":
        # It imports what it needs of the system at once.
        import k5test

        self._realm: Any = k5test.K5Realm(
            realm=self.name,
            # Only the first of the ten is used.
            portbase=free_port(),
            get_creds=False,
            create_user=False,
            create_host=False,
            krb5_conf={
                "libdefaults": {
                    "dns_canonicalize_hostname": "false",
                    "rdns": "false",
                    "udp_preference_limit": "1",
                    "forwardable": "true",
                },
                "realms": {
                    "$realm": {
                        "kdc": "127.0.0.1:$port0",
                        "auth_to_local": f"RULE:[1:$$1@$$0](^.*@{self.name}$$)s/@.*//s/^/sendooway-/",
                    }
                },
                "domain_realm": {"localhost": "$realm"},
            },
            # k5test would listen on all addresses.
            kdc_conf={
                "realms": {
                    "$realm": {
                        "kdc_ports": None,
                        "kdc_tcp_ports": None,
                        "kdc_listen": "127.0.0.1:$port0",
                        "kdc_tcp_listen": "127.0.0.1:$port0",
                    }
                }
            },
        )
        self.configuration.write_bytes(Path(self._realm.env["KRB5_CONFIG"]).read_bytes())
        self.configuration.chmod(0o644)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._realm.stop()

    def add(self, principal: str, password: str | None = None) -> str:
        """Make a principal, with a random key where there is no password, and give its name with the realm."""
        self._realm.addprinc(principal, password)
        return f"{principal}@{self.name}"

    def write_keytab(self, path: Path, *principals: str) -> Path:
        """Add new keys of these principals to a keytab. All that was written of them before is stale then."""
        for principal in principals:
            self._realm.extract_keytab(principal, str(path))
        return path

    def set(self, principal: str, *options: str) -> None:
        """`kadmin modprinc`."""
        self._realm.run_kadminl(" ".join(("modprinc", *options, principal)))

    def log_in(self, principal: str, password: str, *options: str) -> dict[str, str]:
        """`kinit`; gives the environment in which programs have the ticket."""
        cache = self.folder / f"cache-{principal.replace('/', '-')}-{len(list(self.folder.iterdir()))}"
        environment = self.environment(cache)
        subprocess.run(
            ["kinit", *options, f"{principal}@{self.name}"],
            input=f"{password}\n".encode(),
            env=environment,
            stdout=subprocess.DEVNULL,
            check=True,
        )
        return environment

    def environment(self, cache: Path, configuration: Path | None = None) -> dict[str, str]:
        """In which programs find the realm, and their tickets in the file `cache`."""
        return {"PATH": _PATH, "KRB5_CONFIG": str(configuration or self.configuration), "KRB5CCNAME": f"FILE:{cache}"}

    def configure(self, name: str, *lines: str, kdc: str = "") -> Path:
        """Another krb5.conf, with more lines in [libdefaults], or another KDC."""
        text = self.configuration.read_text()
        text = text.replace("[libdefaults]\n", "[libdefaults]\n" + "".join(f"\t{line}\n" for line in lines))
        if kdc:
            before, rest = text.split("\tkdc = ", 1)
            text = f"{before}\tkdc = {kdc}\n{rest.partition(chr(10))[2]}"
        path = self.folder / f"{name}.krb5.conf"
        path.write_text(text)
        return path

    def stop_kdc(self) -> None:
        self._realm.stop_kdc()

    def log(self) -> str:
        """What the KDC has written."""
        return Path(self._realm.tmpdir, "kdc.log").read_text()
