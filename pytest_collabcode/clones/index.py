"""The clone index: segments in memory or on disk and sealed parts, asked together.

Not covered: making it on disk (disk.py), what found runs mean (memorization/).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from pytest_collabcode.clones.matching import Matches, match
from pytest_collabcode.clones.normalize import NORMALIZER_VERSION
from pytest_collabcode.clones.query import Query
from pytest_collabcode.clones.runs import Run
from pytest_collabcode.clones.segment import Segment, Shape
from pytest_collabcode.errors import ConfigurationError, nearest
from pytest_collabcode.records import Document, Signature

MIN_LINES = 6


class Part(Protocol):
    """Something that can be asked for runs."""

    @property
    def organizations(self) -> tuple[str, ...]:
        """Whose documents it holds, sorted."""
        ...

    def match(self, query: Query) -> Matches:
        """Return all runs of a query, none contained in another of the same organization and kind."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class OpenPart:
    """A segment whose texts are at hand, so that every run is verified on them.

    Example:
        >>> documents = [Document(path="x.py", text="a\\nb\\n", organization="acme")]
        >>> OpenPart(segment=Segment.build(documents, Shape(min_lines=2))).organizations
        ('acme',)
    """

    segment: Segment

    @property
    def organizations(self) -> tuple[str, ...]:
        """Whose documents it holds, sorted."""
        return self.segment.documents.organizations

    def match(self, query: Query) -> Matches:
        """Return all runs of a query."""
        return match(self.segment, query)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChosenPart:
    """One organization of a part."""

    part: Part
    name: str

    @property
    def organizations(self) -> tuple[str, ...]:
        """The one that was chosen."""
        return (self.name,)

    def match(self, query: Query) -> Matches:
        """Return the runs of that organization.

        Example:
            >>> documents = [Document(path="x", text="a\\nb\\n", organization=name) for name in ("acme", "zeta")]
            >>> [part] = CloneIndex.build(documents, min_lines=2).parts
            >>> chosen = ChosenPart(part=part, name="zeta")
            >>> [run.origin.organization for _, run in chosen.match(Query.of([["a", "b"]])).runs]
            ['zeta']
        """
        matches = self.part.match(query)
        return replace(matches, runs=[found for found in matches.runs if found[1].origin.organization == self.name])


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CloneIndex:
    """Every window of `min_lines` significant lines of some documents.

    Example:
        >>> documents = [Document(path="x.py", text="a = 1\\n\\nb = 2\\nc = 3\\n", organization="acme")]
        >>> index = CloneIndex.build(documents, min_lines=2)
        >>> [(run.first, run.stop, run.first_line, run.last_line) for run in index.find(["z = 0", "b = 2", "c = 3"])]
        [(1, 3, 3, 4)]
    """

    shape: Shape
    parts: tuple[Part, ...]
    sealed: tuple[str, ...] = ()  # organizations whose hits are not verified on text
    digests: tuple[str, ...] = ()  # of the indexes on disk that are part of it, short

    @staticmethod
    def build(
        documents: Sequence[Document],
        *,
        min_lines: int = MIN_LINES,
        normalization: str = "verbatim",
        sparse: bool = False,
    ) -> CloneIndex:
        """Index documents in memory, licence headers included.

        Args:
            documents: usually the training split; what is given is what can be found.
            min_lines: of the shortest clone, in significant lines, >= 1.
            normalization: one of normalize.NORMALIZATIONS.
            sparse: index every fourth window of three lines (for min_lines=6): a quarter of the size, same runs.
        Returns:
            The index; empty if no document has min_lines significant lines.
        Raises:
            ConfigurationError: min_lines is below 1, or there is no such normalization.
        Example:
            >>> CloneIndex.build([]).find(["a = 1"] * 6)
            []
        """
        return CloneIndex.of(documents, Shape(min_lines=min_lines, normalization=normalization, sparse=sparse))

    @staticmethod
    def of(documents: Sequence[Document], shape: Shape) -> CloneIndex:
        """Index documents in memory; see `build`."""
        return CloneIndex(shape=shape, parts=(OpenPart(segment=Segment.build(documents, shape)),))

    def chosen(self, name: str) -> CloneIndex:
        """Return what one organization has in this index.

        Raises:
            ConfigurationError: it holds nothing of that organization.
        Example:
            >>> documents = [Document(path="x", text="a", organization=name) for name in ("acme", "zeta")]
            >>> CloneIndex.build(documents).chosen("zeta").organizations
            ('zeta',)
        """
        if name not in self.organizations:
            raise ConfigurationError(
                f"organization={name!r} is not in the index; {nearest(name, self.organizations)}"
            )
        parts = tuple(ChosenPart(part=part, name=name) for part in self.parts)
        return replace(self, parts=parts, sealed=(name,) if self.sealed else ())

    @staticmethod
    def joined(indexes: Sequence[CloneIndex]) -> CloneIndex:
        """Return one index of several, which are asked together.

        Args:
            indexes: at least one.
        Raises:
            ConfigurationError: they differ in min_lines or normalization.
        Example:
            >>> acme, zeta = (CloneIndex.build([Document(path="x", text="a", organization=o)]) for o in ("a", "z"))
            >>> CloneIndex.joined([acme, zeta]).organizations
            ('a', 'z')
        """
        for index in indexes[1:]:
            if (index.min_lines, index.normalization) != (indexes[0].min_lines, indexes[0].normalization):
                raise ConfigurationError(
                    f"index of {', '.join(index.organizations)}: made with {index.shape}, asked for is "
                    f"{indexes[0].shape}; ask with its own normalization and min_lines, or make it again"
                )
        return CloneIndex(
            shape=replace(indexes[0].shape, sparse=any(index.shape.sparse for index in indexes)),
            parts=tuple(part for index in indexes for part in index.parts),
            sealed=tuple(name for index in indexes for name in index.sealed),
            digests=tuple(digest for index in indexes for digest in index.digests),
        )

    @property
    def min_lines(self) -> int:
        """Significant lines of the shortest clone."""
        return self.shape.min_lines

    @property
    def normalization(self) -> str:
        """What is done to lines before they are compared."""
        return self.shape.normalization

    @property
    def signature(self) -> Signature:
        """How clones are found, as it stands on every verdict."""
        pairs = [("min_lines", str(self.min_lines)), ("normalization", f"{self.normalization}.{NORMALIZER_VERSION}")]
        if self.shape.sparse:
            pairs.append(("index", "sparse"))
        if self.sealed:
            pairs.append(("sealed", ",".join(self.sealed)))  # their hits are not verified on text
        if self.digests:
            pairs.append(("indexes", ",".join(self.digests)))
        return tuple(pairs)

    @property
    def organizations(self) -> tuple[str, ...]:
        """Names of the organizations that have documents here, sorted."""
        return tuple(sorted({name for part in self.parts for name in part.organizations}))

    def find(self, lines: Sequence[str]) -> list[Run]:
        """Return the runs of one text, given as its normalized significant lines; see `find_all`."""
        return self.find_all([lines])[0]

    def find_all(self, texts: Sequence[Sequence[str]]) -> list[list[Run]]:
        """Return the runs of each text: maximal on both sides, and none contained in another of the same part,
        organization and kind (planted or not).

        Args:
            texts: each as its normalized significant lines.
        Returns:
            One list per text. Runs of open parts are verified on the documents' text.
        Raises:
            StoreError: a part on disk is damaged.
        """
        query = Query.of(texts)
        matches = [part.match(query) for part in self.parts]
        counts = np.zeros(len(query.lines), dtype=np.int64)
        for held in (m.counts for m in matches if m.runs):  # a part that holds a window has a run of it
            counts += held
        found: list[list[Run]] = [[] for _ in texts]
        for text, run in (pair for m in matches for pair in m.runs):
            copies = 0
            if not self.shape.sparse:
                start = int(query.bounds[text]) + run.first
                copies = int(counts[start : start + run.stop - run.first - self.min_lines + 1].min())
            found[text].append(replace(run, copies=copies))
        return found
