"""A device's key separates whatever computes at another speed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from pytest_collabcode.machine import usable_cores
from pytest_collabcode.throughput.device import Device, cpu_device, nvidia_driver

CPUINFO = (
    "processor\t: 0\nmodel name\t: Some CPU @ 2.5GHz\nflags\t\t: fpu avx avx2 avx512f\n\n"
    "processor\t: 1\nmodel name\t: Other\n"
)


def test_the_cpu_is_read_from_cpuinfo(tmp_path: Path) -> None:
    path = tmp_path / "cpuinfo"
    path.write_text(CPUINFO)
    device = cpu_device(path)
    assert (device.name, device.driver) == ("Some CPU @ 2.5GHz", "avx512f")
    assert device.cores == usable_cores()


def test_without_cpuinfo_there_is_still_a_key(tmp_path: Path) -> None:
    assert cpu_device(tmp_path / "missing").key.startswith("cpu-")


@pytest.mark.parametrize("change", [{"name": "y"}, {"kind": "cuda"}, {"driver": "avx2"}, {"cores": 2}], ids=str)
def test_every_field_is_in_the_key(change: dict[str, str | int]) -> None:
    device = Device(name="x")
    assert replace(device, **change).key != device.key  # type: ignore[arg-type]


def test_a_key_is_a_file_name() -> None:
    assert Device(name="A/B (c) é", driver="..").key.strip("abcdefghijklmnopqrstuvwxyz0123456789.-") == ""


@pytest.mark.parametrize(
    "text",
    [
        "NVRM version: NVIDIA UNIX x86_64 Kernel Module  570.86.15  Thu Jan  2 05:28:33 UTC 2025\nGCC version:  12\n",
        "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  570.86.15  Release Build  (dvs@x)  Thu Jan  2\n",
    ],
)
def test_the_driver_is_read_from_the_kernel_module(tmp_path: Path, text: str) -> None:
    path = tmp_path / "version"
    path.write_text(text)
    assert nvidia_driver(path) == "570.86.15"


@pytest.mark.parametrize("text", [None, "", "something else 1.2\n"])
def test_a_driver_that_cannot_be_read_has_no_version(tmp_path: Path, text: str | None) -> None:
    path = tmp_path / "version"
    if text is not None:
        path.write_text(text)
    assert nvidia_driver(path) == ""
