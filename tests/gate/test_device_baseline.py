"""A speed is judged as a ratio, as a fraction of a peak, or against the same device: never by itself."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from pytest_collabcode.errors import ConfigurationError
from pytest_collabcode.gate.baseline import Baseline, baseline_entry, baseline_key, load_baseline
from pytest_collabcode.gate.thresholds import load_thresholds
from pytest_collabcode.gate.verdict import judge
from pytest_collabcode.records import Measurement, Ruling, Threshold, Verdict
from pytest_collabcode.report.files import Report, accept, write_report
from pytest_collabcode.throughput.device import Device
from pytest_collabcode.throughput.measure import Conditions, throughput, time_to_first_token

HERE = Conditions(
    device=Device(name="NVIDIA L4", kind="cuda", driver="570.86.15-cuda12.8-sm89", cores=58),
    dtype="bfloat16", threads=1, timer="cuda_events", work="32 rows x 64 tokens", engine="llama",
)  # fmt: skip
DROP = Threshold(id="decode-drop", metric="decode_throughput", max_drop=0.1)


def rate(value: float, *, conditions: Conditions = HERE, spread: float = 0.01) -> Measurement:
    seconds = [1.0 - spread, 1.0, 1.0, 1.0 + spread]
    return throughput("decode", "s", n_tokens=round(value), rounds_s=seconds, conditions=conditions)


def against(before: Measurement, now: Measurement, threshold: Threshold = DROP) -> Verdict:
    baseline = Baseline(path=Path("b.json"), measurements={baseline_key(before): baseline_entry(before)})
    return judge(now, threshold, baseline.drop(now))


@pytest.mark.parametrize(
    ("value", "spread", "ruling"),
    [
        (1000, 0.01, Ruling.PASS),
        (2000, 0.01, Ruling.PASS),  # faster is no drop
        (950, 0.01, Ruling.PASS),
        (910, 0.03, Ruling.UNDECIDED),
        (700, 0.01, Ruling.FAIL),
    ],
)
def test_a_drop_on_the_same_device_is_judged(value: float, spread: float, ruling: Ruling) -> None:
    assert against(rate(1000), rate(value, spread=spread)).outcome is ruling


def test_longer_waiting_is_a_drop_too() -> None:
    before, now = (time_to_first_token("s", prompts_s=[s, s, s], conditions=HERE) for s in (0.1, 0.2))
    verdict = against(before, now, Threshold(id="a", metric="time_to_first_token", max_drop=0.5))
    assert verdict.outcome is Ruling.FAIL and "drop 1 [1, 1] over 3 rounds" in verdict.reason
    assert against(now, before).outcome is Ruling.PASS


@pytest.mark.parametrize(
    "change",
    [
        {"device": replace(HERE.device, name="NVIDIA H100 PCIe")},
        {"device": replace(HERE.device, driver="580.1-cuda13.0-sm89")},
        {"device": replace(HERE.device, cores=14)},
        {"dtype": "float32"},
    ],
    ids=["name", "driver", "cores", "dtype"],
)
@pytest.mark.parametrize("value", [1, 1000])
def test_another_devices_baseline_never_judges(change: dict[str, object], value: float) -> None:
    verdict = against(rate(1000), rate(value, conditions=replace(HERE, **change)))  # type: ignore[arg-type]
    assert verdict.outcome is Ruling.UNDECIDED and not verdict.blocks
    assert "no baseline of " in verdict.reason and "collabcode accept" in verdict.reason


def test_no_baseline_at_all_blocks_nothing_and_says_so() -> None:
    verdict = judge(rate(1000), DROP, None)
    assert not verdict.blocks
    assert "no baseline of cuda-nvidia-l4-570.86.15-cuda12.8-sm89-58 bfloat16 yet, recorded only" in verdict.line()


@pytest.mark.parametrize(("floor", "ruling"), [(500, Ruling.PASS), (5000, Ruling.FAIL), (1000, Ruling.UNDECIDED)])
def test_another_bound_of_the_threshold_still_judges(floor: float, ruling: Ruling) -> None:
    threshold = Threshold(id="a", metric="acme.rate", at_least=floor, max_drop=0.1)
    verdict = judge(replace(rate(1000, spread=0.2), name="acme.rate"), threshold, None)
    assert verdict.outcome is ruling and verdict.blocks is (ruling is not Ruling.PASS)
    assert "no baseline of" in verdict.reason


@pytest.mark.parametrize(
    ("change", "ruling"),
    [({"work": "8 rows x 64 tokens"}, Ruling.UNMEASURED), ({"engine": "transformers"}, Ruling.PASS)],
    ids=["work", "engine"],
)
def test_other_work_is_not_compared_and_another_engine_is(change: dict[str, str], ruling: Ruling) -> None:
    verdict = against(rate(1000), rate(1000, conditions=replace(HERE, **change)))  # type: ignore[arg-type]
    assert verdict.outcome is ruling


def test_accept_keeps_the_baselines_of_several_devices_side_by_side(tmp_path: Path) -> None:
    there = replace(HERE, device=replace(HERE.device, name="NVIDIA H100 PCIe"))
    for conditions, value in ((HERE, 1000), (there, 9000)):
        measured = (rate(value, conditions=conditions),)
        report = Report(green=True, partial=False, measurements=measured, verdicts=(), environment=())
        write_report(report, "json", tmp_path / "gate.json")
        said = accept(tmp_path / "gate.json", tmp_path / "b.json")
        assert len(said) == 1 and said[0].endswith("(new)") and conditions.device.key in said[0]
    baseline = load_baseline(tmp_path / "b.json")
    assert len(json.loads((tmp_path / "b.json").read_text())["measurements"]) == 2
    for conditions, value in ((HERE, 1000), (there, 9000)):
        now = rate(value * 0.8, conditions=conditions)
        assert judge(now, DROP, baseline.drop(now)).outcome is Ruling.FAIL


@pytest.mark.parametrize("bound", ["at_least = 100", "at_most = 100", "at_least = 100\nmax_drop = 0.1"])
@pytest.mark.parametrize(
    ("metric", "instead"),
    [
        ("training_throughput", "training_speedup or training_mfu"),
        ("generation_throughput", "generation_speedup or generation_mfu"),
        ("decode_throughput", "generation_speedup or decode_mbu"),
        ("time_to_first_token", "first_token_speedup or first_token_mfu"),
    ],
)
def test_a_bound_on_a_bare_rate_is_refused(tmp_path: Path, metric: str, instead: str, bound: str) -> None:
    file = tmp_path / "t.toml"
    file.write_text(f'schema = 1\n[[threshold]]\nid = "a"\nmetric = "{metric}"\n{bound}\n')
    with pytest.raises(ConfigurationError) as refused:
        load_thresholds(file)
    assert str(refused.value).endswith(
        f"t.toml:2: threshold 'a': {metric} tells of the machine, so a bound on it holds nowhere else; bound "
        f"{instead}, or give max_drop, against a baseline of the same device"
    )
    file.write_text(f'schema = 1\n[[threshold]]\nid = "a"\nmetric = "{metric}"\nmax_drop = 0.1\n')
    assert load_thresholds(file).thresholds[0].max_drop == 0.1


@pytest.mark.parametrize("metric", ["training_mfu", "decode_mbu_of_data_sheet", "first_token_speedup"])
def test_a_ratio_may_be_bounded(tmp_path: Path, metric: str) -> None:
    file = tmp_path / "t.toml"
    file.write_text(f'schema = 1\n[[threshold]]\nid = "a"\nmetric = "{metric}"\nat_least = 0.3\n')
    assert load_thresholds(file).thresholds[0].at_least == 0.3
