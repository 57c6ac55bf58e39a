"""Probes measure this device, and memory is measured where it is used."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch

from pytest_collabcode.models.probes import device_of, device_stopwatch, measured_peaks, peak_bytes
from pytest_collabcode.throughput.device import cpu_device


def test_a_bigger_share_of_time_finds_no_smaller_peak_by_orders_of_magnitude() -> None:
    short, longer = (measured_peaks("cpu", seconds=s) for s in (0.01, 0.1))
    assert 0.1 < short.flops_per_s / longer.flops_per_s < 10
    assert 0.1 < short.copy_bytes_per_s / longer.copy_bytes_per_s < 10
    assert (short.dtype, short.threads, short.device) == ("float32", torch.get_num_threads(), cpu_device())


def test_the_peak_is_of_the_dtype_that_is_asked_for() -> None:
    assert measured_peaks("cpu", dtype=torch.float64, seconds=0.01).dtype == "float64"


def test_peak_memory_sees_what_was_held_for_a_moment_only() -> None:
    idle = peak_bytes("cpu", lambda: None)
    busy = peak_bytes("cpu", lambda: torch.ones(50_000_000).sum())
    after = peak_bytes("cpu", lambda: None)
    assert busy - idle > 180_000_000
    if os.access("/proc/self/clear_refs", os.W_OK):
        assert busy - after > 150_000_000


@pytest.mark.parametrize(("threads", "clock"), [(1, "process_time"), (2, "perf_counter")])
def test_the_clock_of_one_thread_is_cpu_time(threads: int, clock: str) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        assert device_stopwatch("cpu").__name__ == clock
    finally:
        torch.set_num_threads(before)


class Queue:
    """A GPU of which only the order of what it is asked is known."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.events = 0

    def event(self, enable_timing: bool) -> Event:
        assert enable_timing
        self.events += 1
        return Event(self, f"event {self.events}")

    @contextmanager
    def device(self, name: str) -> Iterator[None]:
        self.asked.append(f"on {name}")
        yield


class Event:
    def __init__(self, queue: Queue, name: str) -> None:
        self.queue, self.name = queue, name

    def record(self) -> None:
        self.queue.asked.append(f"{self.name} recorded")

    def synchronize(self) -> None:
        self.queue.asked.append(f"{self.name} reached")

    def elapsed_time(self, other: Event) -> float:
        self.queue.asked.append(f"{self.name} to {other.name}")
        return 2500.0


def test_a_gpus_stopwatch_waits_before_and_for_the_end_only(monkeypatch: pytest.MonkeyPatch) -> None:
    queue = Queue()
    monkeypatch.setattr(torch.cuda, "Event", queue.event)
    monkeypatch.setattr(torch.cuda, "device", queue.device)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: queue.asked.append("all done"))
    assert device_stopwatch("cuda:1")(lambda: queue.asked.append("work")) == 2.5
    assert queue.asked == [
        "on cuda:1", "all done", "event 1 recorded", "work", "event 2 recorded", "event 2 reached",
        "event 1 to event 2",
    ]  # fmt: skip


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU: the same probes, with events at the edges")
def test_a_gpu_has_peaks_of_its_own() -> None:
    found = measured_peaks("cuda", dtype=torch.bfloat16)
    assert found.device == device_of("cuda") and found.device.kind == "cuda"
    assert found.flops_per_s > measured_peaks("cpu").flops_per_s
    a = torch.ones(4096, 4096, device="cuda")
    product = a @ a  # kernels are loaded by their first use
    once, often = (
        device_stopwatch("cuda")(lambda n=n: [torch.mm(a, a, out=product) for _ in range(n)]) for n in (5, 50)
    )
    assert 3 < often / once < 30  # queued work is inside the interval
