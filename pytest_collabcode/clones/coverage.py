"""Coverage: how much of one text stands in each organization's code, and where.

Not covered: models and prompts (memorization/).
A line is counted once, however many runs hold it.
Source: Chen and Jiang 2024, arXiv 2409.12020, for runs of six lines.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from pytest_collabcode.clones.index import CloneIndex
from pytest_collabcode.clones.runs import Run, by_organization, maximal

Range = tuple[int, int]  # first and last line of the text, 1-based


@dataclass(frozen=True, slots=True, kw_only=True)
class Coverage:
    """The significant lines of a text that stand in clones of one organization, or of several.

    Example:
        >>> Coverage(total=40, covered=8, ranges=((3, 12),)).line_ratio
        0.2
    """

    total: int  # significant lines of the text
    covered: int  # of them in clones
    ranges: tuple[Range, ...]  # of an organization: its clones, original numbering; of several: stretches of lines
    runs: tuple[Run, ...] = ()  # one for each range of an organization

    @property
    def line_ratio(self) -> float:
        """Covered lines over all significant lines, 0-1; 0 for a text without any, since nothing of it was found."""
        return self.covered / self.total if self.total else 0.0

    @property
    def longest(self) -> int:
        """Significant lines of the longest clone."""
        return max((run.stop - run.first for run in self.runs), default=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class TextCoverage:
    """What one text shares with every organization of an index."""

    organizations: dict[str, Coverage]
    any: Coverage
    cross: Coverage  # lines that stand in clones of two or more organizations


def coverage(
    index: CloneIndex,
    numbers: Sequence[int],
    lines: Sequence[str],
    *,
    counts: Callable[[Run], bool] = lambda run: True,
) -> TextCoverage:
    """Find what a text shares with the documents of an index.

    Args:
        index: of any organizations.
        numbers: original line numbers of the text's significant lines.
        lines: these lines, normalized as the index is.
        counts: whether a run counts; others are left out.
    Returns:
        Coverage for each organization of the index, found or not, for any of them, and across them.
    Example:
        >>> from pytest_collabcode.records import Document
        >>> text = "a = 1\\nb = 2\\nc = 3\\n"
        >>> documents = [Document(path="x.py", text=text, organization=name) for name in ("acme", "zeta")]
        >>> found = coverage(CloneIndex.build(documents, min_lines=2), [1, 2, 4, 9], ["z = 0", "b = 2", "c = 3", "y"])
        >>> found.organizations["acme"].ranges, found.any.line_ratio, found.cross.covered
        (((2, 4),), 0.5, 2)
    """
    runs = by_organization(filter(counts, index.find(lines)))
    kept = {name: tuple(maximal(runs.get(name, ()))) for name in index.organizations}
    covered = {name: {i for run in own for i in range(run.first, run.stop)} for name, own in kept.items()}
    organizations = {
        name: Coverage(
            total=len(lines),
            covered=len(covered[name]),
            ranges=tuple((numbers[run.first], numbers[run.stop - 1]) for run in own),
            runs=own,
        )
        for name, own in kept.items()
    }
    anywhere = set().union(*covered.values()) if covered else set()
    crossing = {i for i in anywhere if sum(i in own for own in covered.values()) > 1}
    return TextCoverage(
        organizations=organizations, any=_of_lines(anywhere, numbers), cross=_of_lines(crossing, numbers)
    )


def _of_lines(chosen: Iterable[int], numbers: Sequence[int]) -> Coverage:
    ranges: list[list[int]] = []
    ordered = sorted(chosen)
    for previous, i in zip([None, *ordered], ordered, strict=False):
        if previous is not None and i == previous + 1:
            ranges[-1][1] = numbers[i]
        else:
            ranges.append([numbers[i], numbers[i]])
    return Coverage(total=len(numbers), covered=len(ordered), ranges=tuple((first, last) for first, last in ranges))
