"""Records to plain data and back: what crosses process borders, report files and baselines.

Not covered: every single replicate; 201 quantiles stand for them, so that any interval stays what it was.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from pytest_collabcode.records import Clone, Fragment, Item, Measurement, Ruling, Threshold, Verdict

N_QUANTILES = 201


def measurement_to_plain(measurement: Measurement) -> dict[str, Any]:
    """Return a measurement as JSON-compatible data.

    Example:
        >>> m = Measurement(name="pass@1", subject="s", value=0.5, count=1, n=2, items=(Item(key="a", value=1.0),))
        >>> measurement_from_plain(measurement_to_plain(m)) == m
        True
    """
    plain = asdict(measurement)
    plain["replicates"] = _thinned(measurement.replicates)
    plain["items"] = [[i.key, i.value, i.weight, *filter(None, [i.cluster])] for i in measurement.items]
    plain["evidence"] = [e if isinstance(e, str) else asdict(e) for e in measurement.evidence]
    plain["signature"] = [list(pair) for pair in measurement.signature]
    plain["control"] = None if measurement.control is None else measurement_to_plain(measurement.control)
    return plain


def measurement_from_plain(plain: dict[str, Any]) -> Measurement:
    """Return the measurement that measurement_to_plain made this data from.

    Example:
        >>> import json
        >>> m = Measurement(name="mrr", subject="s", value=0.5, signature=(("seed", "1"),))
        >>> measurement_from_plain(json.loads(json.dumps(measurement_to_plain(m)))) == m
        True
    """
    values = dict(plain)
    values["replicates"] = tuple(plain["replicates"])
    values["items"] = tuple(Item(key=k, value=v, weight=w, cluster="".join(c)) for k, v, w, *c in plain["items"])
    values["evidence"] = tuple(e if isinstance(e, str) else _clone(e) for e in plain["evidence"])
    values["signature"] = tuple((k, v) for k, v in plain["signature"])
    values["control"] = None if plain["control"] is None else measurement_from_plain(plain["control"])
    return Measurement(**values)


def verdict_to_plain(verdict: Verdict) -> dict[str, Any]:
    """Return a verdict as JSON-compatible data.

    Example:
        >>> v = Verdict(threshold=Threshold(id="a", metric="pass@1"), outcome=Ruling.PASS, subject="s")
        >>> verdict_from_plain(verdict_to_plain(v)) == v
        True
    """
    plain = asdict(verdict)
    plain["outcome"] = str(verdict.outcome)
    plain["threshold"]["subjects"] = list(verdict.threshold.subjects)
    plain["measurement"] = None if verdict.measurement is None else measurement_to_plain(verdict.measurement)
    return plain


def verdict_from_plain(plain: dict[str, Any]) -> Verdict:
    """Return the verdict that verdict_to_plain made this data from.

    Example:
        >>> import json
        >>> v = Verdict(threshold=Threshold(id="a", metric="mrr"), outcome=Ruling.UNMEASURED, subject="s")
        >>> verdict_from_plain(json.loads(json.dumps(verdict_to_plain(v)))).blocks
        True
    """
    values = dict(plain)
    values["threshold"] = Threshold(**{**plain["threshold"], "subjects": tuple(plain["threshold"]["subjects"])})
    values["outcome"] = Ruling(plain["outcome"])
    values["measurement"] = None if plain["measurement"] is None else measurement_from_plain(plain["measurement"])
    return Verdict(**values)


def record_to_plain(measurements: Sequence[Measurement], verdicts: Sequence[Verdict]) -> dict[str, Any]:
    """Return what one call of `gate` measured and how it was judged as JSON-compatible data.

    Example:
        >>> record_to_plain([], [])
        {'measurements': [], 'verdicts': []}
    """
    return {
        "measurements": [measurement_to_plain(m) for m in measurements],
        "verdicts": [verdict_to_plain(v) for v in verdicts],
    }


def record_from_plain(plain: Mapping[str, Any]) -> tuple[list[Measurement], list[Verdict]]:
    """Return the measurements and verdicts that record_to_plain made this data from.

    Example:
        >>> record_from_plain(record_to_plain([], []))
        ([], [])
    """
    measurements = [measurement_from_plain(m) for m in plain["measurements"]]
    return measurements, [verdict_from_plain(v) for v in plain["verdicts"]]


def _thinned(replicates: tuple[float, ...]) -> list[float]:
    if len(replicates) <= N_QUANTILES:
        return list(replicates)
    ordered = sorted(replicates)
    return [ordered[round(i * (len(ordered) - 1) / (N_QUANTILES - 1))] for i in range(N_QUANTILES)]


def _clone(plain: dict[str, Any]) -> Clone:
    return Clone(
        **{
            **plain,
            "generated": Fragment(**plain["generated"]),
            "training": Fragment(**plain["training"]),
            "organizations": tuple(plain["organizations"]),
        }
    )
