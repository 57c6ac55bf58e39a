"""What holds for a process once it is confined, by the kernel's own word."""

import contextlib
import os
from pathlib import Path

import pytest

from pytest_collabcode.execution.crew import Crew
from pytest_collabcode.execution.sandbox import open_sandbox
from pytest_collabcode.records import Problem

# Calls that reach others, the whole machine, or memory that no limit counts: numbers on x86_64 and aarch64.
DOORS = {
    "sync": (162, 81),
    "syncfs": (306, 267),
    "io_setup": (206, 0),
    "splice": (275, 76),
    "tee": (276, 77),
    "vmsplice": (278, 75),
    "inotify_init1": (294, 26),
    "timer_create": (222, 107),
    "mlock": (149, 228),
    "mlock2": (325, 284),
    "mlockall": (151, 230),
    "migrate_pages": (256, 238),
    "move_pages": (279, 239),
    "set_mempolicy_home_node": (450, 450),
    "modify_ldt": (154, None),
    "personality": (135, 92),
    "sched_setparam": (142, 118),
    "sched_setscheduler": (144, 119),
    "sched_setaffinity": (203, 122),
    "sched_setattr": (314, 274),
    "ioprio_set": (251, 30),
    "pidfd_open": (434, 434),
    "pidfd_getfd": (438, 438),
    "process_madvise": (440, 440),
    "process_mrelease": (448, 448),
    "mount_setattr": (442, 442),
    "open_tree": (428, 428),
    "open_tree_attr": (467, 467),
    "statmount": (457, 457),
    "listmount": (458, 458),
    "quotactl": (179, 60),
    "quotactl_fd": (443, 443),
    "landlock_create_ruleset": (444, 444),  # 64 Ki rules of 64 bytes for each open file
    "landlock_add_rule": (445, 445),
    "memfd_secret": (447, 447),
    "cachestat": (451, 451),
    "map_shadow_stack": (453, 453),
    "lsm_get_self_attr": (459, 459),
    "lsm_set_self_attr": (460, 460),
    "lsm_list_modules": (461, 461),
    "io_uring_setup": (425, 425),
    "clone3": (435, 435),
}
TRIES = """
    import ctypes, errno
    libc = ctypes.CDLL(None, use_errno=True)
    def refused(number):
        return libc.syscall(number, 0, 0, 0, 0, 0, 0) == -1 and ctypes.get_errno() in (errno.EPERM, errno.ENOSYS)
    return [name for name, number in x if not refused(number)]
"""


@pytest.fixture(scope="module")
def crew():
    with Crew(open_sandbox(), 1) as crew:
        yield crew


def problem(test):
    return Problem(task_id="t", prompt="def answer(x):\n", test=f"def check(f):\n    {test}\n", entry_point="answer")


@pytest.mark.parametrize("known", [True, False], ids=["doors", "an open one"])
def test_newer_calls_are_refused_by_the_kernel_itself(crew, known):
    column = ("x86_64", "aarch64").index(os.uname().machine)
    doors = DOORS if known else {"getpid": (39, 172)}  # which shows that what is open is seen
    numbers = [[name, of[column]] for name, of in doors.items() if of[column] is not None]
    found = [] if known else ["getpid"]
    ruling = crew.try_program(problem(f"assert f({numbers}) == {found}"), TRIES)
    assert ruling.outcome == "passed", ruling


def owner(process):
    """Of what the kernel tells about a process: root if it may not be dumped, else the process's user."""
    return Path(f"/proc/{process}/maps").stat().st_uid


def test_no_core_is_made_of_program_or_judge_wherever_the_machine_would_send_it(crew):
    top = crew._all[0]._worker.pid
    sleeps = "    import time; time.sleep(1); return x + 1\n"
    future = crew.submit(crew.try_program, problem("assert f(1) == 2"), sleeps)
    expected = sorted([owner(top), 0, 0])  # a Keeper shares the zygote's memory
    owners = []
    while sorted(owners) != expected and not future.done():  # they are confined soon after they are forked
        with contextlib.suppress(OSError):
            owners = [owner(child) for child in Path(f"/proc/{top}/task/{top}/children").read_text().split()]
    assert future.result().outcome == "passed"
    assert sorted(owners) == expected
