"""The last wall, put up from inside: resource limits and closed standard streams, before any foreign line runs.

Runs inside the sandbox: imports the standard library only. Not covered: namespaces and the system-call filter, which
sandbox.py puts up from outside.
Source: setrlimit(2). Limits that are lowered hard cannot be raised again without a capability, and none is left.
"""

from __future__ import annotations

import os
import resource
from collections.abc import Mapping


def confine(limits: Mapping[str, float]) -> None:
    """Bound this process for good and connect its standard streams to /dev/null.

    Args:
        limits: the fields of `policy.Limits`.
    Example:
        >>> import subprocess, sys
        >>> limits = {"cpu_s": 1, "memory_bytes": 1 << 30, "file_bytes": 0, "n_files": 9, "n_processes": 1}
        >>> program = f"from {__name__} import confine; confine({limits}); print('never seen')"
        >>> run = subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE)
        >>> run.returncode, run.stdout
        (0, b'')
    """
    cpu_s = int(limits["cpu_s"])
    bounds = {
        resource.RLIMIT_CORE: (0, 0),
        resource.RLIMIT_CPU: (cpu_s, cpu_s + 1),  # SIGXCPU, then SIGKILL for whoever ignores it
        resource.RLIMIT_AS: (int(limits["memory_bytes"]),) * 2,
        resource.RLIMIT_FSIZE: (int(limits["file_bytes"]),) * 2,
        resource.RLIMIT_NOFILE: (int(limits["n_files"]),) * 2,
        resource.RLIMIT_NPROC: (int(limits["n_processes"]),) * 2,
    }
    for kind, bound in bounds.items():
        resource.setrlimit(kind, bound)
    null = os.open("/dev/null", os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(null, stream)
    os.close(null)
