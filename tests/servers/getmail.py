"""The real getmail, asked what it understands of configuration files (`--dump`)."""

import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path


def why_not() -> str:
    """Why getmail cannot be asked here, else nothing."""
    return "" if shutil.which("getmail") else "needs getmail6"


def run(texts: Mapping[str, str], folder: Path) -> subprocess.CompletedProcess[bytes]:
    """Let getmail dump files, by their names. Each needs a destination, for which there is the Maildir `mail/`."""
    for part in ("cur", "new", "tmp"):
        (folder / "mail" / part).mkdir(parents=True, exist_ok=True)
    command = ["getmail", "--dump", "--getmaildir", str(folder)]
    for name, text in texts.items():
        (folder / name).write_bytes(text.encode("utf-8", "surrogateescape"))
        command += ["--rcfile", name]
    environment = {"HOME": str(folder), "LC_ALL": "C.UTF-8", "PATH": os.environ["PATH"]}
    return subprocess.run(command, capture_output=True, env=environment, stdin=subprocess.DEVNULL, check=False)


def retrievers(texts: Mapping[str, str], folder: Path) -> list[tuple[str, dict[str, str]]]:
    """The type and the settings of each retriever, in the order of the files, all of which are valid."""
    dumped = run(texts, folder).stdout.decode("utf-8", "surrogateescape")
    found = re.findall(r"^  retriever: +(\w+)\((.*)\)$", dumped, re.MULTILINE)
    return [(name, dict(re.findall(r'(?:^|, )(\w+)="(.*?)"(?=, \w+="|$)', settings))) for name, settings in found]


def rejects(text: str, folder: Path) -> bool:
    return run({"rejected": text}, folder).returncode != 0
