"""The real msmtp, asked what it understands of a configuration file (`--pretend --debug`)."""

import re
import shutil
import subprocess
from pathlib import Path

from sendooway.accounts.msmtprc import ON, Section, number

COMMANDS = (
    *("host", "port", "user", "passwordeval", "auth", "tls", "tls_starttls", "tls_certcheck", "tls_trust_file"),
    *("tls_fingerprint", "from", "domain", "protocol", "socket"),
)

_NOT_SET = "(not set)"


def why_not() -> str:
    """Why msmtp cannot be asked here, else nothing."""
    return "" if shutil.which("msmtp") else "needs msmtp"


def show(octets: bytes, folder: Path, account: str) -> dict[str, str] | int | None:
    """What msmtp shows of an account; the number of the line that it rejects; None where the account is of no use."""
    file = folder / "msmtprc"
    file.touch(mode=0o600)
    file.write_bytes(octets)
    command = ["msmtp", "-C", str(file), "--pretend", "--debug", "-a", account, "nobody@test.test"]
    environment = {"HOME": str(folder), "USER": "alice", "LC_ALL": "C", "PATH": "/usr/bin:/bin"}
    ran = subprocess.run(command, capture_output=True, env=environment, stdin=subprocess.DEVNULL, check=False)
    said = ran.stderr.decode("utf-8", "surrogateescape")
    if error := re.search(r": line ([0-9]+): ", said):
        return int(error[1])
    if ran.returncode:
        return None
    pairs = re.findall(r"^([a-z_]+) = (.*)$", ran.stdout.decode("utf-8", "surrogateescape"), re.MULTILINE)
    return {name: value or _NOT_SET for name, value in pairs if name in COMMANDS}


def expected(section: Section) -> dict[str, str]:
    """The same for what we read."""
    settings = {name: setting.text for name, setting in section.settings.items()}
    tls = settings.get("tls", "off")
    starttls = "off" if "tls_nostarttls" in settings else settings.get("tls_starttls", "on")
    auth = settings.get("auth", "off")
    fingerprint = settings.get("tls_fingerprint", "").upper()
    shown = {name: settings.get(name) or _NOT_SET for name in COMMANDS}
    return shown | {
        "port": str(number(settings.get("port") or ("465" if tls == ON and starttls != ON else "25"))),
        "auth": {"on": "choose", "off": "none"}.get(auth, auth.upper()),
        "tls": tls,
        "tls_starttls": starttls,
        "tls_certcheck": "off" if "tls_nocertcheck" in settings else settings.get("tls_certcheck", "on"),
        "tls_trust_file": settings.get("tls_trust_file", "system") or _NOT_SET,
        "tls_fingerprint": fingerprint or _NOT_SET,
        "domain": settings.get("domain", "localhost") or _NOT_SET,
        "protocol": settings.get("protocol", "smtp"),
    }
