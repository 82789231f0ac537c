"""What iptables holds, as plain lines, and the removal of lines that a test engine left (test kit)."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import time
from collections.abc import Iterable

TRIES = 50
COUNTERS = re.compile(r" \[\d+:\d+\]$")


def rules() -> list[str]:
    """Every chain and rule as `table line`, without counters; empty where iptables is missing."""
    if os.geteuid() != 0 or shutil.which("iptables-save") is None:
        return []
    found = []
    table = ""
    for line in _saved().splitlines():
        if line.startswith("*"):
            table = line[1:]
        elif line.startswith((":", "-A")):
            found.append(f"{table} {COUNTERS.sub('', line)}")
    return found


def _saved() -> str:
    # It may fail while another changes the rules; none at all would be a wrong answer.
    for _ in range(TRIES):
        saved = subprocess.run(["iptables-save"], capture_output=True, text=True, check=False)
        if saved.returncode == 0:
            return saved.stdout
        time.sleep(0.1)
    raise RuntimeError(f"iptables-save ended with {saved.returncode}: {saved.stderr}")


def naming(lines: Iterable[str], words: Iterable[str]) -> list[str]:
    """The rules (not chains) that have one of `words` among theirs."""
    wanted = set(words)
    return [line for line in lines if " -A " in line and wanted & set(line.split())]


def remove(lines: Iterable[str]) -> None:
    """Removes these rules, then these chains; a chain of the system gets its policy ACCEPT back."""
    chosen = list(lines)
    for line in chosen:
        table, kind, rest = line.split(" ", 2) if " -A " in line else (*line.split(" ", 1), "")
        if kind == "-A":
            _iptables("-t", table, "-D", *shlex.split(rest))
    for line in chosen:
        table, rest = line.split(" ", 1)
        if not rest.startswith(":"):
            continue
        name, policy = rest[1:].split()[:2]
        if policy == "-":
            _iptables("-t", table, "-F", name)
            _iptables("-t", table, "-X", name)
        else:
            _iptables("-t", table, "-P", name, "ACCEPT")


def _iptables(*words: str) -> None:
    # A rule that is gone by now was removed by its engine: that is the wished end.
    subprocess.run(["iptables", "-w", *words], capture_output=True, check=False)
