"""The throughput suite end to end: what it measures, when it refuses, and when what it measured is void."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

SUITE = (Path(__file__).parent.parent.parent / "suites" / "test_throughput.py").read_text()
THRESHOLDS = """schema = 1
consortium = "tiny"
[[threshold]]
id = "generation-speed"
metric = "generation_speedup"
at_least = 0.01
[[threshold]]
id = "training-speed"
metric = "training_speedup"
at_least = 0.01
[[threshold]]
id = "training-rate"
metric = "training_throughput"
max_drop = 0.5
[[threshold]]
id = "decode-rate"
metric = "decode_throughput"
max_drop = 0.5
"""
# While training is timed the machine runs at half the speed whenever it is asked again.
UNSTEADY = """
from dataclasses import replace
import pytest
from pytest_collabcode import timing

@pytest.fixture(autouse=True)
def unsteady(request, monkeypatch):
    if "training" in request.node.name:
        calls = []
        def peaks(device, dtype):
            calls.append(1)
            return replace(real(device, dtype=dtype, seconds=0.01), flops_per_s=1e11 / 2 ** len(calls))
        real = timing.measured_peaks
        monkeypatch.setattr(timing, "measured_peaks", peaks)
"""
GENERATION = {
    "generation_throughput": "tokens/s",
    "generation_speedup": "ratio",
    "generation_mfu": "ratio",
    "decode_throughput": "tokens/s",
    "decode_mbu": "ratio",
    "time_to_first_token": "s",
    "first_token_speedup": "ratio",
    "first_token_mfu": "ratio",
    "generation_peak_memory": "bytes",
}

Run = Callable[..., tuple[int, str]]


@pytest.fixture
def run(pytester: pytest.Pytester, tiny_options: list[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)

    def run(*arguments: str, thresholds: str = THRESHOLDS) -> tuple[int, str]:
        pytester.makepyfile(test_throughput=SUITE)
        (pytester.path / "t.toml").write_text(thresholds)
        options = [*tiny_options, "--collabcode-regime=centralized", "--collabcode-thresholds=t.toml", *arguments]
        result = pytester.runpytest_subprocess(*options, timeout=300)
        return int(result.ret), "\n".join(result.outlines + result.errlines)

    return run


def test_everything_is_measured_and_what_a_changing_machine_gave_is_void(run: Run, pytester: pytest.Pytester) -> None:
    pytester.makeconftest(UNSTEADY)
    code, text = run("--collabcode-report=json:r.json")
    report = json.loads((pytester.path / "r.json").read_text())
    measured = {m["name"]: m for m in report["measurements"]}
    assert {name: m["unit"] for name, m in measured.items()} == GENERATION
    assert all(m["value"] > 0 and m["replicates"] for m in measured.values())
    assert all({"device", "dtype", "threads", "work", "engine", "timer"} <= {k for k, _ in m["signature"]} for m in
               measured.values())  # fmt: skip
    assert measured["decode_throughput"]["value"] > measured["generation_throughput"]["value"]
    for line in ("measured   generation_mfu = ", "measured   time_to_first_token = ", "PASS       generation-speed "):
        assert line in text
    assert "UNDECIDED  decode-rate decode_throughput = " in text and "recorded only" in text
    for line in ("training-speed training_speedup", "training-rate training_throughput"):
        assert (
            f"UNMEASURED {line} [tiny/centralized] throughput of tiny/centralized: the machine did not keep" in text
        )
    assert code == 1 and "FAIL " not in text and "2 of 4 verdicts block" in text


def test_beside_other_tests_nothing_is_timed(run: Run) -> None:
    code, text = run("-n1")
    assert code == 1, text
    for metric in ("generation_speedup", "training_speedup", "training_throughput", "decode_throughput"):
        assert f"{metric} [tiny/centralized] throughput cannot be timed while tests run side by side; run it" in text
    assert text.count("UNMEASURED") == 4 and "GREEN" not in text and "4 of 4 verdicts block" in text


def test_a_bare_rate_is_refused_before_a_model_is_built(run: Run) -> None:
    bare = THRESHOLDS.replace("max_drop = 0.5", "at_least = 100")
    code, text = run(thresholds=bare)
    assert code == 4 and "training_throughput tells of the machine" in text and "Traceback" not in text
