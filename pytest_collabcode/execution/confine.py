"""The last walls, put up from inside in the one order that works, before any foreign line runs.

Runs inside the sandbox: imports the standard library and this room only. Not covered: what the zygote has put up
before and its children inherit: namespaces, no new privileges, the first filter.
Source: setrlimit(2). Limits that are lowered hard cannot be raised again without a capability, and none is left.
"""

from __future__ import annotations

import os
import resource

from pytest_collabcode.execution.kernel import (
    die_with_parent,
    drop_capabilities,
    forbid_dumps,
    install_filter,
)
from pytest_collabcode.execution.landlock import enforce
from pytest_collabcode.execution.walls import Walls


def confine(walls: Walls, rules: int) -> None:
    """Bound this process for good and connect standard error to where standard output goes, which is /dev/null.

    Args:
        walls: limits, filter, whether there is Landlock.
        rules: of Landlock, an open file, which is closed.
    Raises:
        OSError: a wall could not be put up; the standard streams are still the caller's.
    Example:
        >>> import subprocess, sys
        >>> program = f"import os; from {__name__} import *; from {__package__}.kernel import *; "
        >>> program += f"from {__package__}.seccomp import build_filters; "
        >>> program += "filters = tuple(f.hex() for f in build_filters(os.uname().machine)); "
        >>> program += "bounds = dict.fromkeys(Walls._fields[:9], 1) | {'memory_bytes': 1 << 30, 'n_files': 9}; "
        >>> program += "walls = Walls(**bounds, filters=filters, readable=[], scratch='', landlocked=False); "
        >>> program += "forbid_new_privileges(); confine(walls, os.dup(0)); os.write(2, b'never seen')"
        >>> run = subprocess.run([sys.executable, "-c", program], stdout=subprocess.DEVNULL, stderr=-1)
        >>> run.returncode, run.stderr
        (0, b'')
    """
    _limit(walls)
    forbid_dumps()
    drop_capabilities()
    if not walls.namespaced:  # else the kernel ends everybody in the zygote's namespace with the zygote
        die_with_parent()
    if walls.landlocked:
        enforce(rules)
    os.close(rules)
    install_filter(walls.filter_for(os.getpid()))
    os.dup2(1, 2)  # last of all, so that an error above is heard


def _limit(walls: Walls) -> None:
    bounds = {
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_CPU: walls.cpu_s,  # soft and hard alike: SIGKILL, which nobody can ignore
        resource.RLIMIT_AS: walls.memory_bytes,
        resource.RLIMIT_FSIZE: walls.file_bytes,
        resource.RLIMIT_NOFILE: walls.n_files,
        resource.RLIMIT_NPROC: walls.n_processes,
    }
    for kind, bound in bounds.items():
        resource.setrlimit(kind, (bound, bound))
