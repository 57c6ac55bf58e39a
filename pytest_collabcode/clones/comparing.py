"""Comparing: the code that stands in two organizations' documents, which a model may give back across them.

Documents are asked of the index as any text is. A screen says which are worth it: all but those of the last
organization, since each pair is found from its first; or (engines/duckdb_join.py) those that share a window with a
later one. What is found does not depend on it.
Not covered: near copies (near.py), sealed indexes, whose texts are not there to ask with.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pytest_collabcode.clones.folder import grouped
from pytest_collabcode.clones.index import CloneIndex, OpenPart
from pytest_collabcode.clones.runs import Run, by_organization, maximal
from pytest_collabcode.clones.segment import Segment
from pytest_collabcode.records import Fragment

ASKED_LINES = 1 << 17  # at once

Flags = npt.NDArray[np.bool_]
Screen = Callable[[Sequence[Segment]], list[Flags]]  # which documents of each segment are asked


@dataclass(frozen=True, slots=True, kw_only=True)
class Shared:
    """A maximal run of equal significant lines in documents of two organizations, the first by name first."""

    first: Fragment
    second: Fragment
    significant_lines: int


def owner_ranks(segments: Sequence[Segment]) -> list[npt.NDArray[np.int64]]:
    """Return, for each segment, the place of each document's organization among all their organizations by name.

    Example:
        >>> from pytest_collabcode.clones.segment import Shape
        >>> from pytest_collabcode.records import Document
        >>> documents = [Document(path="x.py", text="a", organization=name) for name in ("acme", "zeta")]
        >>> segments = [Segment.build(own, Shape()) for own in (documents, documents[1:])]
        >>> [ranks.tolist() for ranks in owner_ranks(segments)]
        [[0, 1], [1]]
    """
    names = sorted({name for segment in segments for name in segment.documents.organizations})
    return [
        np.array([names.index(name) for name in s.documents.organizations], dtype=np.int64)[s.documents.owners]
        for s in segments
    ]


def all_but_the_last(segments: Sequence[Segment]) -> list[Flags]:
    """Return flags of all documents but those of the last organization.

    Example:
        >>> all_but_the_last([])
        []
    """
    ranks = owner_ranks(segments)
    last = max((int(own.max(initial=0)) for own in ranks), default=0)
    return [own < last for own in ranks]


def shared_code(index: CloneIndex, *, screen: Screen = all_but_the_last) -> Iterator[Shared]:
    """Yield the code that stands in two organizations; each fragment once for every pair, in the index's order.

    Args:
        index: of open parts.
        screen: which documents are asked; must flag those that share code with an organization later by name.
    Raises:
        StoreError: it is damaged.
    Example:
        >>> from pytest_collabcode.records import Document
        >>> documents = [Document(path="x.py", text="a\\n\\nb\\n", organization=name) for name in ("zeta", "acme")]
        >>> [shared] = shared_code(CloneIndex.build(documents, min_lines=2))
        >>> str(shared.first), str(shared.second), shared.significant_lines
        ('acme:x.py:1-3', 'zeta:x.py:1-3', 2)
    """
    segments = [part.segment for part in index.parts if isinstance(part, OpenPart)]
    for segment, flags in zip(segments, screen(segments), strict=True):
        documents = ((number, *segment.documents.lines(number)) for number in np.flatnonzero(flags).tolist())
        for batch in grouped(documents, ASKED_LINES, size=lambda asked: len(asked[2])):
            found = index.find_all([lines for _, _, lines in batch])
            for (number, numbers, _), runs in zip(batch, found, strict=True):
                yield from _shared(segment, number, numbers, runs)


def _shared(segment: Segment, number: int, numbers: Sequence[int], runs: Sequence[Run]) -> Iterator[Shared]:
    """Yield the maximal runs of a document in organizations that come later by name."""
    origin = segment.documents.origin(number)
    for other, own in sorted(by_organization(runs).items()):
        for run in maximal(own) if other > origin.organization else ():
            yield Shared(
                first=Fragment(
                    organization=origin.organization,
                    path=origin.path,
                    first_line=numbers[run.first],
                    last_line=numbers[run.stop - 1],
                ),
                second=Fragment(
                    organization=other,
                    path=run.origin.path,
                    first_line=run.first_line,
                    last_line=run.last_line,
                ),
                significant_lines=run.stop - run.first,
            )
