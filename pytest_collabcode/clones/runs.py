"""Runs: what a text shares with one document, and of an organization's runs the maximal ones.

Not covered: finding them (matching.py), gaps (near.py).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """The document of a run, described: everything but its text."""

    organization: str
    path: str  # of a sealed document, its opaque number
    planted: bool = False
    licence: str = ""  # SPDX identifier
    header_lines: int = 0  # lines its licence header takes


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """Consecutive significant lines of a text that equal consecutive significant lines of one document."""

    first: int  # in the text's significant lines
    stop: int  # behind the last
    origin: Origin
    first_line: int  # 1-based line of the document; 0 where that is sealed
    last_line: int
    n_header: int = 0  # how many of its lines are licence header
    copies: int = 0  # places of its rarest window in all that is indexed; 0 where that is not known
    fingerprint: str = ""  # of a sealed run, keyed; see sealing.run_fingerprint


def by_organization(runs: Iterable[Run]) -> dict[str, list[Run]]:
    """Group runs by the organization of their document.

    Example:
        >>> by_organization([])
        {}
    """
    groups: dict[str, list[Run]] = {}
    for run in runs:
        groups.setdefault(run.origin.organization, []).append(run)
    return groups


def maximal(runs: Iterable[Run]) -> list[Run]:
    """Keep the runs whose lines are not contained in another's; of equal ones the first by path.

    Example:
        >>> a, b = Origin(organization="acme", path="a.py"), Origin(organization="acme", path="b.py")
        >>> def run(first, stop, origin):
        ...     return Run(first=first, stop=stop, origin=origin, first_line=first + 1, last_line=stop)
        >>> kept = maximal([run(1, 7, a), run(0, 8, b), run(0, 8, a), run(3, 9, b)])
        >>> [(r.first, r.stop, r.origin.path) for r in kept]
        [(0, 8, 'a.py'), (3, 9, 'b.py')]
    """
    kept: list[Run] = []
    for run in sorted(runs, key=lambda r: (r.first, -r.stop, r.origin.path, r.first_line)):
        if not kept or run.stop > kept[-1].stop:
            kept.append(run)
    return kept


def holds(kept: Sequence[Run], run: Run) -> bool:
    """Whether one of the maximal runs of an organization contains the lines of a run.

    Args:
        kept: as `maximal` returns them, so that firsts and stops both grow.
        run: of any organization.
    Example:
        >>> origin = Origin(organization="acme", path="a.py")
        >>> kept = [Run(first=0, stop=8, origin=origin, first_line=1, last_line=8)]
        >>> holds(kept, Run(first=1, stop=8, origin=origin, first_line=2, last_line=8))
        True
        >>> holds(kept, Run(first=1, stop=9, origin=origin, first_line=2, last_line=9))
        False
    """
    place = bisect_right(kept, run.first, key=lambda r: r.first)
    return place > 0 and kept[place - 1].stop >= run.stop
