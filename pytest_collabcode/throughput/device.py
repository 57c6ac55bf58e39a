"""Which device a speed was measured on: the name, driver and cores that keep two machines' numbers apart.

Not covered: asking a GPU (models/probes names it, since that needs torch), power caps, clock rates.
Sources: Linux proc(5) for /proc/cpuinfo; NVIDIA's driver README for /proc/driver/nvidia/version.
"""

from __future__ import annotations

import platform
import re
from dataclasses import dataclass
from pathlib import Path

from pytest_collabcode.machine import usable_cores

CPUINFO = Path("/proc/cpuinfo")
NVIDIA_VERSION = Path("/proc/driver/nvidia/version")


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """Something that computes."""

    name: str  # "NVIDIA H100 80GB HBM3", "AMD EPYC"
    kind: str = "cpu"  # or "cuda"
    driver: str = ""  # of the GPU; for a CPU the vector instructions that decide its speed
    cores: int = 1  # that this process may use

    @property
    def key(self) -> str:
        """Return a name that is safe in files and differs wherever speeds differ.

        Example:
            >>> Device(name="AMD EPYC", driver="avx2", cores=2).key
            'cpu-amd-epyc-avx2-2'
        """
        text = f"{self.kind}-{self.name}-{self.driver}-{self.cores}".lower()
        return re.sub(r"[^a-z0-9.]+", "-", text).strip("-")


def cpu_device(cpuinfo: Path = CPUINFO) -> Device:
    """Return the CPU of this machine.

    Args:
        cpuinfo: in the format of /proc/cpuinfo; where it is missing, the platform module's name is used.
    Example:
        >>> cpu_device().cores >= 1
        True
    """
    try:
        fields = dict(_field(line) for line in cpuinfo.read_text().split("\n\n")[0].splitlines() if ":" in line)
    except OSError:
        fields = {}
    name = fields.get("model name") or platform.processor() or platform.machine()
    return Device(name=name, driver=_vector_instructions(fields.get("flags", "")), cores=usable_cores())


def nvidia_driver(version: Path = NVIDIA_VERSION) -> str:
    """Return the version of the NVIDIA kernel driver, or "" where it cannot be read.

    Args:
        version: in the format of /proc/driver/nvidia/version.
    Example:
        >>> nvidia_driver(Path("/nowhere"))
        ''
    """
    try:
        found = re.search(r"Kernel Module.*?\s(\d+(?:\.\d+)+)\s", version.read_text())
    except OSError:
        return ""
    return found.group(1) if found else ""


def _field(line: str) -> tuple[str, str]:
    name, _, value = line.partition(":")
    return name.strip(), value.strip()


def _vector_instructions(flags: str) -> str:
    known = ("amx_bf16", "avx512_bf16", "avx512f", "avx2", "avx", "asimd")
    return next((name for name in known if name in flags.split()), "")
