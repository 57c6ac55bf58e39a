from pathlib import Path

import pytest

from pytest_collabcode.execution import cgroup, crew, sandbox
from pytest_collabcode.execution.cgroup import Group, find_parent
from pytest_collabcode.execution.policy import Limits
from pytest_collabcode.records import Problem


def hierarchy(root: Path, controllers: dict[str, str], own: str) -> Path:
    """Make files as the kernel has them, and those that say that this process is in the group `own`."""
    for group, handed_down in controllers.items():
        folder = root / group
        folder.mkdir(parents=True, exist_ok=True)
        folder.joinpath("cgroup.subtree_control").write_text(handed_down)
        folder.joinpath("cgroup.procs").touch()
    membership = root / "membership"
    membership.write_text(f"12:pids:/x\n0::/{own}\n")
    return membership


@pytest.mark.parametrize(
    ("controllers", "own", "found"),
    [
        ({"": "cpu memory pids"}, "", ""),  # in the root group
        ({"": "memory pids", "user": "memory pids", "user/session": ""}, "user/session", "user"),
        ({"": "memory pids", "user": "memory", "user/session": ""}, "user/session", None),
        ({"": "memory pids", "user": "", "user/session": ""}, "user/session", None),
        ({"": "hugetlb"}, "", None),
    ],
)
def test_groups_are_made_where_both_controllers_are_handed_down(tmp_path, controllers, own, found):
    membership = hierarchy(tmp_path, controllers, own)
    assert find_parent(tmp_path, membership) == (None if found is None else tmp_path / found)


@pytest.mark.parametrize("text", ["", "12:pids:/x\n"])
def test_without_a_version_2_hierarchy_there_are_no_groups(tmp_path, text):
    (tmp_path / "membership").write_text(text)
    assert find_parent(tmp_path, tmp_path / "membership") is None


def test_a_group_bounds_program_test_files_and_threads_together(tmp_path):
    group = Group(tmp_path, Limits(memory_bytes=1 << 20, scratch_bytes=1 << 10, n_processes=10))
    group.add(4711)
    (group.path / "memory.events").write_text("oom 3\noom_kill 2\n")
    read = {path.name: path.read_text() for path in group.path.iterdir()}
    assert read["memory.max"] == str((1 << 20) + (1 << 10) + cgroup._OWN_BYTES)
    assert (read["memory.swap.max"], read["pids.max"], read["cgroup.procs"]) == ("0", "18", "4711")
    assert group.n_killed() == 2


@pytest.mark.skipif(find_parent() is None, reason="no version-2 hierarchy with memory and pids is ours to write to")
def test_the_kernel_bounds_a_sample_by_its_group():
    opened = sandbox.open_sandbox(Limits(memory_bytes=8 << 30, scratch_bytes=1 << 20, n_processes=20))
    assert opened.level.endswith("+cgroup")
    problem = Problem(task_id="t", prompt="def f(x):\n", test="def check(f): assert f(1) == 2\n", entry_point="f")
    threads = "    import threading, time\n    for _ in range(99):\n"
    threads += "        threading.Thread(target=time.sleep, args=(9,), daemon=True).start()\n    return 2\n"
    with crew.Crew(opened, 1) as team:
        assert team.try_program(problem, threads).outcome == "failed"
        assert team.try_program(problem, "    return x + 1\n").outcome == "passed"
