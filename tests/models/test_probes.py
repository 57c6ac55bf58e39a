"""Probes measure this device, and memory is measured where it is used."""

from __future__ import annotations

import os

import pytest
import torch

from pytest_collabcode.models.probes import device_of, measured_peaks, native_bfloat16, peak_bytes, probe_timer
from pytest_collabcode.throughput.device import cpu_device


def test_a_bigger_share_of_time_finds_no_smaller_peak_by_orders_of_magnitude() -> None:
    short, longer = (measured_peaks("cpu", seconds=s) for s in (0.01, 0.1))
    assert 0.1 < short.flops_per_s / longer.flops_per_s < 10
    assert 0.1 < short.copy_bytes_per_s / longer.copy_bytes_per_s < 10
    assert (short.dtype, short.threads, short.device) == ("float32", torch.get_num_threads(), cpu_device())


def test_peak_memory_sees_what_was_held_for_a_moment_only() -> None:
    idle = peak_bytes("cpu", lambda: None)
    busy = peak_bytes("cpu", lambda: torch.ones(50_000_000).sum())
    after = peak_bytes("cpu", lambda: None)
    assert busy - idle > 180_000_000
    if os.access("/proc/self/clear_refs", os.W_OK):
        assert busy - after > 150_000_000


def test_the_clock_of_one_thread_is_cpu_time() -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        assert probe_timer("cpu").__name__ == "process_time"
    finally:
        torch.set_num_threads(threads)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU: the same probes, with events at the edges")
def test_a_gpu_has_peaks_of_its_own() -> None:
    found = measured_peaks("cuda", dtype=torch.bfloat16)
    assert (
        found.device == device_of("cuda") and found.device.kind == "cuda" and native_bfloat16("cuda") in (True, False)
    )
    assert found.flops_per_s > measured_peaks("cpu").flops_per_s
