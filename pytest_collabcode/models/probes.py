"""What this device reaches here and now: short GEMM and copy probes, its stopwatch, and the memory that a call held.

Fractions of these peaks survive power caps, MIG slices and laptops, and tell slow code from a slow machine.
Not covered: FP8, interconnects, the data sheet (throughput/peaks).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from pytest_collabcode.throughput.clock import Stopwatch, stopwatch
from pytest_collabcode.throughput.device import Device, cpu_device, nvidia_driver

CPU_GEMM, GPU_GEMM = 1024, 8192  # side of the square matrices
CPU_COPY_BYTES, GPU_COPY_BYTES = 1 << 27, 1 << 30  # beyond the last cache, which both arrays share
PROCESS = Path("/proc/self")


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredPeaks:
    """The best of a few seconds on one device."""

    device: Device
    dtype: str
    threads: int
    flops_per_s: float
    copy_bytes_per_s: float  # read and written bytes, both counted


def measured_peaks(device: str, *, dtype: torch.dtype = torch.float32, seconds: float = 0.4) -> MeasuredPeaks:
    """Return the GEMM rate and the copy bandwidth of a device with torch's present number of threads.

    Args:
        device: "cpu", "cuda", ...
        dtype: of the matrices.
        seconds: spent on each probe; the best single call counts.
    Example:
        >>> peaks = measured_peaks("cpu", seconds=0.01)
        >>> peaks.flops_per_s > 1e8, peaks.copy_bytes_per_s > 1e7
        (True, True)
    """
    on_cpu = device == "cpu"
    side = CPU_GEMM if on_cpu else GPU_GEMM
    a, b = (torch.rand(side, side, device=device).sub_(0.5).to(dtype) for _ in range(2))  # ones draw too little power
    product = torch.empty_like(a)
    source = torch.ones((CPU_COPY_BYTES if on_cpu else GPU_COPY_BYTES) // 4, device=device)
    target = torch.empty_like(source)
    watch = device_stopwatch(device)
    gemm_s = _best(lambda: torch.mm(a, b, out=product), seconds, watch)
    copy_s = _best(lambda: target.copy_(source), seconds, watch)
    return MeasuredPeaks(
        device=device_of(device),
        dtype=str(dtype).removeprefix("torch."),
        threads=torch.get_num_threads(),
        flops_per_s=2 * side**3 / gemm_s,
        copy_bytes_per_s=2 * source.numel() * 4 / copy_s,
    )


def device_of(device: str) -> Device:
    """Return the device's name, driver and cores.

    Example:
        >>> device_of("cpu").kind
        'cpu'
    """
    if not device.startswith("cuda"):
        return cpu_device()
    found = torch.cuda.get_device_properties(device)
    driver = f"{nvidia_driver()}-cuda{torch.version.cuda}-sm{found.major}{found.minor}"
    return Device(name=found.name, kind="cuda", driver=driver, cores=found.multi_processor_count)


def device_stopwatch(device: str) -> Stopwatch:
    """Return the stopwatch for a device: CPU time for one thread, wall time for more, a pair of events on a GPU.

    Example:
        >>> watch = device_stopwatch("cpu")
        >>> watch.__name__ in ("process_time", "perf_counter"), watch(lambda: sum(range(100_000))) > 0
        (True, True)
    """
    if not device.startswith("cuda"):
        return stopwatch(time.process_time if torch.get_num_threads() == 1 else time.perf_counter)

    def cuda_events(call: Callable[[], Any]) -> float:
        with torch.cuda.device(device):
            before, after = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
            torch.cuda.synchronize()  # nothing that was queued earlier is in the interval
            before.record()
            call()
            after.record()
            after.synchronize()  # all that the call queued is
            return float(before.elapsed_time(after)) / 1000

    return cuda_events


def peak_bytes(device: str, call: Callable[[], object]) -> int:
    """Run a callable and return the most memory that was held meanwhile.

    Args:
        device: on a GPU what torch's allocator gave out counts; on a CPU the resident set of the whole process.
        call: run once.
    Raises:
        OSError: the kernel does not show the resident set (not Linux).
    Example:
        >>> peak_bytes("cpu", lambda: None) > 1_000_000
        True

    Source: proc(5): writing 5 to clear_refs starts the peak (VmHWM) anew.
    """
    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats(device)
        call()
        torch.cuda.synchronize(device)
        return int(torch.cuda.max_memory_allocated(device))
    with suppress(
        OSError
    ):  # a kernel that refuses gives the peak since the process began: too large, never too small
        (PROCESS / "clear_refs").write_text("5")
    call()
    line = next(x for x in (PROCESS / "status").read_text().splitlines() if x.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024


def _best(call: Callable[[], object], seconds: float, watch: Stopwatch) -> float:
    """Return the shortest time of a call, after one that does not count."""
    call()
    times = [watch(call)]
    while sum(times) < seconds:
        times.append(watch(call))
    return min(times)
