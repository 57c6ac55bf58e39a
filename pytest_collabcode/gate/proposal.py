"""Proposals: a thresholds file for a subject that none judged yet, written from its own measurements.

Every proposed bound stands a stated margin outside the measured interval, so that the same subject measured again
passes and a worse one does not. Nobody is judged by another subject's numbers.
Proposed is what one number decides: finer strata, controls and single source organizations are left to the reader.
Not covered: metrics whose interval leaves no room for a bound that can fail; they are listed as comments.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count
from pathlib import Path

from pytest_collabcode.gate.catalogue import metric
from pytest_collabcode.intervals import interval_of
from pytest_collabcode.records import Measurement

MARGIN = 0.1
_CELL = ("prompt_organization", "source_organization", "stratum")


def propose(measurements: Sequence[Measurement], *, subject: str, consortium: str) -> str:
    """Return a TOML thresholds file for one subject.

    Args:
        measurements: of this subject.
        subject: its name.
        consortium: that the measurements were made against.
    Example:
        >>> m = Measurement(name="pass@1", subject="s", value=0.5, count=50, n=100)
        >>> print(propose([m], subject="s", consortium="demo").split("[[threshold]]")[1].strip())
        # measured 0.5, one-sided 95 % bounds 0.414 to 0.586; margin 10 % of the lower bound
        id = "pass@1"
        metric = "pass@1"
        subjects = ["s"]
        at_least = 0.372
    """
    blocks = [
        f"# Proposed from one run of {subject}; read every number before you commit to it.",
        f'schema = 1\nconsortium = "{consortium}"',
    ]
    own = [m for m in measurements if m.subject == subject]
    for measurement in own:
        if (measurement.items or measurement.n) and is_coarse(measurement):
            others = [m for m in own if m.name == measurement.name]
            blocks.append(_block(measurement, [key for key in _CELL if any(getattr(m, key) for m in others)]))
    return "\n\n".join(blocks) + "\n"


def write_new(path: Path, text: str) -> Path:
    """Write a proposal beside what is there, which may be somebody's own by now.

    Args:
        path: wanted; another number is put before its ending while there is a file of other text.
        text: of the proposal.
    Returns:
        The path that holds the text.
    Example:
        >>> from tempfile import mkdtemp
        >>> path = Path(mkdtemp()) / "a.toml"
        >>> [write_new(path, text).name for text in ("x", "x", "y")]
        ['a.toml', 'a.toml', 'a.2.toml']
    """
    for number in count(1):
        chosen = path if number == 1 else path.with_suffix(f".{number}{path.suffix}")
        if not chosen.exists():
            chosen.write_text(text, encoding="utf-8")
        if chosen.read_text(encoding="utf-8") == text:
            break
    return chosen


def is_coarse(measurement: Measurement) -> bool:
    """Whether a measurement is what one number decides: no control, no finer stratum, no single source organization.

    Example:
        >>> is_coarse(Measurement(name="near_clone_ratio", subject="s", value=0, stratum="heldout"))
        False
    """
    coarse = ("", "natural", "planted")
    return measurement.stratum in coarse and measurement.source_organization in ("", "any", "other")


def _block(measurement: Measurement, keys: Sequence[str]) -> str:
    """Return a threshold for one measurement; `keys` tell it from the metric's others, an empty one the pooled."""
    low, high = interval_of(measurement)
    known = metric(measurement.name)
    ceiling = not measurement.higher_is_better
    edge = high * (1 + MARGIN) if ceiling else low * (1 - MARGIN)
    name = " ".join(part for part in (measurement.name, measurement.cell) if part)
    measured = f"measured {measurement.value:.3g}, one-sided 95 % bounds {low:.3g} to {high:.3g}"
    if known is None or not known.lowest < edge < known.highest or known.family == "throughput":
        return f"# {name}: {measured}; no bound proposed"
    which = "upper" if ceiling else "lower"
    lines = [
        "[[threshold]]",
        f"# {measured}; margin {MARGIN * 100:.0f} % of the {which} bound",
        f'id = "{name}"',
        f'metric = "{measurement.name}"',
        f'subjects = ["{measurement.subject}"]',
        *(f'{key} = "{getattr(measurement, key)}"' for key in keys),
        f"{'at_most' if ceiling else 'at_least'} = {edge:.3g}",
    ]
    return "\n".join(lines)
