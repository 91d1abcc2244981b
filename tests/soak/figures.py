"""What the processes of a server take: memory, descriptors, threads, as /proc tells."""

import os
from dataclasses import dataclass
from pathlib import Path

from servers.processes import title
from servers.program import Sendooway

ROLES = ("monitor", "proxy", "agent")


@dataclass(frozen=True)
class Figures:
    """Of all processes, but for memory: KiB of the monitor, and of the largest proxy."""

    processes: dict[str, int]
    descriptors: int
    threads: int
    monitor_memory: int
    proxy_memory: int

    def row(self, name: str) -> str:
        counts = "".join(f"{self.processes.get(role, 0):>9}" for role in ROLES)
        return (
            f"{name:<26}{counts}{self.descriptors:>8}{self.threads:>9}"
            f"{self.monitor_memory / 1024:>10.1f}{self.proxy_memory / 1024:>10.1f}"
        )


HEAD = f"{'':<26}{'monitors':>9}{'proxies':>9}{'agents':>9}{'fds':>8}{'threads':>9}{'MiB mon.':>10}{'MiB proxy':>10}"


def measure(server: Sendooway) -> Figures:
    processes: dict[str, int] = {}
    memory = {"monitor": 0, "proxy": 0}
    descriptors = threads = 0
    for pid in server.processes():
        try:
            name = title(pid)
            status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
            held = len(os.listdir(f"/proc/{pid}/fd"))
        except (FileNotFoundError, ProcessLookupError):
            continue
        role = next((role for role in ROLES if f"[{role}" in name), "other")
        processes[role] = processes.get(role, 0) + 1
        descriptors += held
        threads += int(status["Threads"])
        if role in memory and "VmRSS" in status:
            memory[role] = max(memory[role], int(status["VmRSS"].split()[0]))
    return Figures(processes, descriptors, threads, memory["monitor"], memory["proxy"])


def growth(before: Figures, after: Figures) -> list[str]:
    """What has grown between two moments of rest. Memory may, by an eighth and 4 MiB: Python keeps what it has once
    needed."""
    grown = []
    for name in ("processes", "descriptors", "threads"):
        if getattr(before, name) != getattr(after, name):
            grown.append(f"{name}: {getattr(before, name)} before, {getattr(after, name)} after")
    for name in ("monitor_memory", "proxy_memory"):
        earlier, later = getattr(before, name), getattr(after, name)
        if later > earlier * 9 / 8 + 4096:
            grown.append(f"{name}: {earlier} KiB before, {later} KiB after")
    return grown
