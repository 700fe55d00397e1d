"""What was measured on: the processor and the versions, and nothing that names a person or a host."""

from __future__ import annotations

import importlib.metadata
import platform
import subprocess
from collections.abc import Sequence
from pathlib import Path

from slth.subsetsum.schedule import count_threads

_ALWAYS = ("numpy", "numba", "llvmlite")


def describe(packages: Sequence[str]) -> dict[str, str]:
    """Processor, number of cores, system and versions, by the name to show.

    Parameters
    ----------
    packages : sequence of str
        Importable names of further packages that take part.
    """
    from llvmlite import binding  # type: ignore[import-untyped]  # has no stubs

    facts = {
        "processor": processor(),
        "instruction set": f"{platform.machine()}, {binding.get_host_cpu_name()}",
        "cores used at most": str(count_threads(None)),
        "system": platform.system(),
        "python": platform.python_version(),
    }
    for name in dict.fromkeys((*_ALWAYS, *packages)):
        version = _version(name)
        if version is not None:
            facts[name] = version
    return facts


def processor() -> str:
    """The processor's name as its maker has it, as far as the system tells."""
    info = Path("/proc/cpuinfo")
    if info.is_file():
        names = [line.partition(":")[2] for line in info.read_text().splitlines() if line.startswith("model name")]
        if names:
            return names[0].strip()
    if platform.system() == "Darwin":
        command = ["sysctl", "-n", "machdep.cpu.brand_string"]
        told = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
        if told:
            return told
    return platform.processor() or platform.machine() or "unknown"


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None
