"""Cores and memory are what a container allows, not what its host has."""

import os

import pytest

from pytest_collabcode.machine import free_memory, own_group, usable_cores


@pytest.fixture
def groups(tmp_path):
    """A hierarchy as a container sees it: pod above, container below."""
    own = tmp_path / "pod" / "container"
    own.mkdir(parents=True)
    (tmp_path / "membership").write_text("12:cpu:/old\n0::/pod/container\n")
    (tmp_path / "meminfo").write_text(
        "MemTotal:       67108864 kB\nMemAvailable:   33554432 kB\nHugePages_Total: 0\n"
    )
    return tmp_path


def where(groups):
    return groups, groups / "membership"


def test_the_group_of_version_2_is_read(groups):
    assert own_group(*where(groups)) == groups / "pod" / "container"


@pytest.mark.parametrize(
    ("pod", "container", "cores"),
    [
        ("max 100000", "max 100000", 64),
        ("max 100000", "200000 100000", 2),
        ("150000 100000", "max 100000", 2),  # a part of a core is time on one more
        ("150000 100000", "50000 100000", 1),
        (None, None, 64),
        ("nonsense", "", 64),
    ],
)
def test_cores_are_limited_by_every_group_above(groups, monkeypatch, pod, container, cores):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(64)))
    for group, text in ((groups / "pod", pod), (groups / "pod" / "container", container)):
        if text is not None:
            (group / "cpu.max").write_text(f"{text}\n")
    assert usable_cores(*where(groups)) == cores


def test_memory_is_what_is_left_of_the_tightest_limit(groups):
    gib, meminfo = 1 << 30, groups / "meminfo"
    assert free_memory(*where(groups), meminfo) == 32 * gib
    container = groups / "pod" / "container"
    (container / "memory.max").write_text(f"{4 * gib}\n")
    (container / "memory.current").write_text(f"{3 * gib}\n")
    (container / "memory.stat").write_text(f"anon {gib}\ninactive_file {2 * gib}\n")
    assert free_memory(*where(groups), meminfo) == 3 * gib
    (groups / "pod" / "memory.max").write_text("max\n")
    (groups / "pod" / "memory.current").write_text(f"{9 * gib}\n")
    assert free_memory(*where(groups), meminfo) == 3 * gib
    (container / "memory.current").write_text(f"{7 * gib}\n")
    assert free_memory(*where(groups), meminfo) == 0


def test_a_system_that_does_not_tell_its_memory_sets_no_limit(groups):
    assert free_memory(*where(groups), groups / "nothing") is None
