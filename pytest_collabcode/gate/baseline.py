"""Baselines: what was accepted before, problem by problem, so that a drop is judged on pairs.

An unpaired difference on 164 problems needs 15 points to show; a paired one far fewer. A baseline is one JSON file,
made from a report by `collabcode accept` and committed. What was measured on a device (a speed, a peak of memory) has
nothing to pair: it is compared as a whole, and only with a run on the same device in the same dtype.
Not covered: comparison across different signatures (other prompts, sampling or corpus): refused, with the key named.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pytest_collabcode.errors import ConfigurationError
from pytest_collabcode.intervals import interval_of, mcnemar, quantile_interval
from pytest_collabcode.records import Item, Measurement, Signature

SCHEMA = 1
# What a new release or another machine changes; everything else must be as it was.
MAY_DIFFER = (
    "weights",
    "adapter",
    "torch",
    "transformers",
    "vllm",
    "python",
    "isolation",
    "allowed",
    "engine",
    "peak",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PairedDrop:
    """How much worse than the baseline, over the problems both have."""

    value: float = math.nan  # points, or the relative worsening of an exponential metric or of a speed
    low: float = math.nan
    high: float = math.nan
    n: int = 0
    unit: str = "pairs"  # or "rounds", of a speed
    detail: str = ""
    problem: str = ""  # why the two cannot be compared


@dataclass(frozen=True, slots=True, kw_only=True)
class Baseline:
    """Accepted measurements by subject and key."""

    path: Path
    measurements: Mapping[str, Mapping[str, Any]]  # "subject|name|cell" -> {"items": {...}, "signature": [...]}

    def drop(self, measurement: Measurement, *, confidence: float = 0.95) -> PairedDrop | None:
        """Return the paired drop of a measurement, or None if the baseline does not know it.

        Args:
            measurement: with items, or measured on a device.
            confidence: of each bound taken alone.
        Returns:
            The drop in the direction of worse; `problem` says why two measurements cannot be compared.
        Example:
            >>> m = Measurement(name="pass@1", subject="s", value=0.5,
            ...     items=(Item(key="a", value=1.0), Item(key="b", value=0.0)))
            >>> before = {"items": {"a": [1.0, 1.0], "b": [1.0, 1.0]}, "signature": []}
            >>> drop = Baseline(path=Path("b.json"), measurements={"s|pass@1|": before}).drop(m)
            >>> drop.value, drop.detail
            (0.5, ', 1 lost, 0 gained, McNemar p = 0.5')
        """
        accepted = self.measurements.get(baseline_key(measurement))
        if accepted is None:
            return None
        difference = _signature_difference([(k, v) for k, v in accepted["signature"]], measurement.signature)
        if difference:
            return PairedDrop(problem=difference)
        if measured_on(measurement):
            return relative_drop(accepted, measurement, confidence=confidence)
        before: dict[str, list[float]] = accepted["items"]
        now = {item.key: item for item in measurement.items}
        if set(before) != set(now):
            missing = len(set(before) ^ set(now))
            return PairedDrop(problem=f"{missing} problems stand on one side only")
        return paired_drop(before, now, measurement, confidence=confidence)


def baseline_key(measurement: Measurement) -> str:
    """Return the key of a measurement in a baseline.

    Example:
        >>> baseline_key(Measurement(name="pass@1", subject="s", value=0.0))
        's|pass@1|'
    """
    where = measured_on(measurement)
    return f"{measurement.subject}|{measurement.name}|{measurement.cell}" + (f"|{where}" if where else "")


def measured_on(measurement: Measurement) -> str:
    """Return the device (with driver and cores) and dtype that a number holds for, or "" if it holds anywhere.

    Example:
        >>> signature = (("device", "cpu-amd-epyc-avx2-2"), ("dtype", "float32"), ("work", "32 rows"))
        >>> measured_on(Measurement(name="decode_throughput", subject="s", value=9.0, signature=signature))
        'cpu-amd-epyc-avx2-2 float32'
    """
    how = dict(measurement.signature)
    return f"{how['device']} {how['dtype']}" if "device" in how else ""


def relative_drop(accepted: Mapping[str, Any], measurement: Measurement, *, confidence: float) -> PairedDrop:
    """Return how much slower (or larger) a number became, as a fraction of what it was, of two runs as wholes.

    The interval holds the most and the least that both runs' intervals allow, so it is wider than asked for.

    Args:
        accepted: value and replicates.
        measurement: with replicates; positive.
        confidence: of each end of the two intervals.
    Example:
        >>> slower = Measurement(name="decode_throughput", subject="s", value=8.0, replicates=(8.0,))
        >>> round(relative_drop({"value": 10.0, "replicates": [10.0]}, slower, confidence=0.95).value, 3)
        0.2
        >>> larger = Measurement(name="peak", subject="s", value=15.0, replicates=(15.0,), higher_is_better=False)
        >>> relative_drop({"value": 10.0, "replicates": [10.0]}, larger, confidence=0.95).value
        0.5
    """
    low, high = quantile_interval(accepted["replicates"], confidence=confidence)
    now_low, now_high = interval_of(measurement, confidence=confidence)
    ratios = (measurement.value / accepted["value"], now_low / high, now_high / low)
    value, *ends = (1 - ratio if measurement.higher_is_better else ratio - 1 for ratio in ratios)
    return PairedDrop(
        value=value,
        low=min(ends),
        high=max(ends),
        n=int(dict(measurement.signature).get("rounds", "1")),
        unit="rounds",
    )


def paired_drop(
    before: Mapping[str, list[float]], now: Mapping[str, Item], measurement: Measurement, *, confidence: float
) -> PairedDrop:
    """Compare item by item.

    Args:
        before: accepted [value, weight] by key.
        now: measured items by key; the same keys.
        measurement: gives direction and form.
        confidence: of each bound taken alone.
    Example:
        >>> m = Measurement(name="pass@1", subject="s", value=0.5)
        >>> d = paired_drop({"a": [1, 1], "b": [1, 1]}, {"a": Item(key="a", value=1), "b": Item(key="b", value=0)},
        ...     m, confidence=0.95)
        >>> d.value, d.n
        (0.5, 2)
    """
    sign = 1.0 if measurement.higher_is_better else -1.0
    keys = sorted(before)
    items = [replace(now[k], value=sign * (before[k][0] - now[k].value)) for k in keys]
    mean = sum(i.value for i in items) / sum(i.weight for i in items)
    paired = Measurement(name=measurement.name, subject=measurement.subject, value=mean, items=tuple(items))
    low, high = interval_of(paired, confidence=confidence)
    if measurement.exponential:
        mean, low, high = (math.expm1(x) for x in (mean, low, high))
    return PairedDrop(value=mean, low=low, high=high, n=len(keys), detail=_discordant(items))


def load_baseline(path: Path) -> Baseline:
    """Read a baseline file.

    Raises:
        ConfigurationError: not a baseline of this schema; the message says how to make one.
    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     file = Path(folder) / "baseline.json"
        ...     _ = file.write_text('{"schema": 1, "measurements": {"s|pass@1|": {"items": {}, "signature": []}}}')
        ...     list(load_baseline(file).measurements)
        ['s|pass@1|']
    """
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise _no_baseline(path, str(error)) from error
    if not isinstance(table, dict):
        raise _no_baseline(path, f"it holds a {type(table).__name__}")
    if "verdicts" in table:
        raise ConfigurationError(f"{path} is a report, not a baseline; make one of it with: collabcode accept {path}")
    if table.get("schema") != SCHEMA:
        raise _no_baseline(path, f"schema={table.get('schema')!r}, this version reads {SCHEMA}")
    measurements = table.get("measurements")
    if not isinstance(measurements, dict) or not all(map(_is_entry, measurements.values())):
        raise _no_baseline(path, "its measurements are not those that collabcode accept writes")
    return Baseline(path=path, measurements=measurements)


def _no_baseline(path: Path, why: str) -> ConfigurationError:
    return ConfigurationError(f"{path} is not a baseline: {why}; make one with: collabcode accept REPORT.json")


def _is_entry(entry: object) -> bool:
    if not isinstance(entry, dict) or not isinstance(entry.get("items"), dict):
        return False
    pairs = entry.get("signature")
    return isinstance(pairs, list) and all(isinstance(pair, list) and len(pair) == 2 for pair in pairs)


def baseline_entry(measurement: Measurement) -> dict[str, Any]:
    """Return what a baseline keeps of a measurement.

    Example:
        >>> m = Measurement(name="pass@1", subject="s", value=1.0, items=(Item(key="HumanEval/0", value=1.0),))
        >>> baseline_entry(m)
        {'value': 1.0, 'signature': [], 'items': {'HumanEval/0': [1.0, 1.0]}}
    """
    entry: dict[str, Any] = {
        "value": measurement.value,
        "signature": [list(pair) for pair in measurement.signature],
        "items": {item.key: [item.value, item.weight] for item in measurement.items},
    }
    return {**entry, "replicates": list(measurement.replicates)} if measured_on(measurement) else entry


def _discordant(items: list[Item]) -> str:
    if not all(i.value in (-1.0, 0.0, 1.0) and i.weight == 1.0 for i in items):
        return ""
    worse, better = sum(i.value > 0 for i in items), sum(i.value < 0 for i in items)
    return f", {worse} lost, {better} gained, McNemar p = {mcnemar(worse, better):.3g}"


def _signature_difference(accepted: list[tuple[str, str]], signature: Signature) -> str:
    before, now = dict(accepted), dict(signature)
    for key in sorted(set(before) | set(now)):
        if key not in MAY_DIFFER and before.get(key) != now.get(key):
            return f"{key} was {before.get(key)!r} and is {now.get(key)!r}"
    return ""
