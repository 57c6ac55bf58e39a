"""Allowed clones: found, reported, not counted, since the organizations agreed to ignore these lines until some day.

A clone is ignored when too few lines to be a clone by itself are left beside the allowed ones.
Not covered: reading the agreements (allow_list.py); part of a fragment that only a fingerprint names, since without
its text nobody can say which lines those are.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from functools import cached_property

from pytest_collabcode.clones.normalize import significant
from pytest_collabcode.digests import digest_of
from pytest_collabcode.memorization.attribution import only
from pytest_collabcode.memorization.clones import ProblemClones, fragment_fingerprint
from pytest_collabcode.memorization.counts import counts_of
from pytest_collabcode.records import Clone, Generation, Measurement, Signature


@dataclass(frozen=True, slots=True, kw_only=True)
class AllowEntry:
    """One agreement."""

    reason: str
    expires: date  # the last day it is in force
    where: str  # "allow.toml:3"
    fingerprint: str = ""  # of a whole fragment, or "" when the lines are known
    lines: tuple[str, ...] = field(default=(), repr=False)  # significant ones, normalized as the index does

    def __str__(self) -> str:
        return f"{self.reason} ({self.where}, until {self.expires})"


@dataclass(frozen=True, kw_only=True)
class Allowed:
    """What is in force, and what no longer is.

    Example:
        >>> entry = AllowEntry(reason="ours", expires=date(2027, 1, 1), where="a.toml:2", lines=("a", "b", "c"))
        >>> allowed = Allowed(entries=(entry,), min_lines=2)
        >>> sorted(allowed.covers(["x", "b", "c", "y"])), allowed.reason(["b", "c", "y"])
        ([1, 2], 'ours (a.toml:2, until 2027-01-01)')
        >>> allowed.reason(["x", "b", "c", "y"])  # x and y are two lines beside it
        ''
    """

    entries: tuple[AllowEntry, ...] = ()
    expired: tuple[AllowEntry, ...] = ()
    min_lines: int = 6  # of a clone; a shorter run of allowed lines is none

    def covers(self, lines: Sequence[str], *, fingerprint: str = "") -> set[int]:
        """Return the indices of the lines that are allowed.

        Args:
            lines: all of one clone, normalized.
            fingerprint: as reports print it; by default the open one, of the lines.
        Returns:
            Those in a run of min_lines or more that stands in an allowed text; all when the fingerprint is allowed.
        """
        return set(self._covering(lines, fingerprint))

    def reason(self, lines: Sequence[str], *, fingerprint: str = "") -> str:
        """Return why a clone of these lines does not count, or "" when min_lines or more are left of it."""
        covering = self._covering(lines, fingerprint)
        if not covering or len(lines) - len(covering) >= self.min_lines:
            return ""
        return "; ".join(dict.fromkeys(str(entry) for _, entry in sorted(covering.items(), key=lambda pair: pair[0])))

    @property
    def signature(self) -> Signature:
        """What is allowed, by digest; reasons and dates do not change it."""
        content = sorted({(entry.fingerprint, entry.lines) for entry in self.entries})
        return (("allow", digest_of(content)[:8]),) if content else ()

    @property
    def notice(self) -> str:
        """One sentence about what expired, or ""."""
        if not self.expired:
            return ""
        named = ", ".join(f"{e.where} on {e.expires} ({e.reason})" for e in self.expired)
        return f"--collabcode-allow: expired and without effect: {named}"

    @cached_property
    def _by_fingerprint(self) -> dict[str, AllowEntry]:
        return {entry.fingerprint: entry for entry in self.entries if entry.fingerprint}

    @cached_property
    def _windows(self) -> dict[tuple[str, ...], AllowEntry]:
        windows: dict[tuple[str, ...], AllowEntry] = {}
        for entry in self.entries:
            for start in range(len(entry.lines) - self.min_lines + 1):
                windows.setdefault(entry.lines[start : start + self.min_lines], entry)
        return windows

    def _covering(self, lines: Sequence[str], fingerprint: str) -> dict[int, AllowEntry]:
        whole = self._by_fingerprint.get(fingerprint or fragment_fingerprint(lines))
        if whole is not None:
            return dict.fromkeys(range(len(lines)), whole)
        found: dict[int, AllowEntry] = {}
        for start in range(len(lines) - self.min_lines + 1):
            entry = self._windows.get(tuple(lines[start : start + self.min_lines]))
            if entry:
                found.update(dict.fromkeys(range(start, start + self.min_lines), entry))
        return found


def mark_allowed(
    scanned: Iterable[ProblemClones],
    generations: Iterable[Generation],
    allowed: Allowed,
    *,
    normalization: str = "verbatim",
) -> list[ProblemClones]:
    """Write into each clone why it does not count, where that is so.

    Args:
        scanned: as `scan` returns them.
        generations: the same that were scanned; a clone has no text, its lines stand here.
        allowed: in force.
        normalization: of the index that found the clones.
    Example:
        >>> mark_allowed([], [], Allowed())
        []
    """
    if not allowed.entries:
        return list(scanned)
    texts = {f"{g.task_id}#{g.sample_index}": g.completion for g in generations}
    return [replace(p, clones=_marked(p, texts, allowed, normalization)) for p in scanned]


def counted(marked: Iterable[ProblemClones]) -> list[ProblemClones]:
    """Return the same prompts with only those clones that count.

    Example:
        >>> counted([])
        []
    """
    return only(marked, lambda clone: not clone.allowed)


def allowed_signature(marked: Sequence[ProblemClones], allowed: Allowed) -> Signature:
    """Return what was allowed and how many distinct clones that took out of the count; nothing without a list.

    Example:
        >>> entry = AllowEntry(reason="ours", expires=date(2027, 1, 1), where="a.toml:2", fingerprint="3a2e")
        >>> [key for key, _ in allowed_signature([], Allowed(entries=(entry,)))]
        ['allow', 'allowed']
    """
    n_distinct = len({c.fingerprint for p in marked for c in p.clones if c.allowed})
    return (*allowed.signature, ("allowed", str(n_distinct))) if allowed.signature else ()


def allowed_clones(marked: Sequence[ProblemClones], *, subject: str, signature: Signature = ()) -> list[Measurement]:
    """Count the distinct clones that were ignored, so that an allow-list can have a ceiling and stays in sight.

    Args:
        marked: prompts of all organizations and strata.
        subject: name of the model.
        signature: how it was got.
    Returns:
        Measurements "allowed_clones" per prompt organization and stratum of the prompt, licence headers and planted
        code included; the clones are the evidence.
    Example:
        >>> from pytest_collabcode.records import Problem
        >>> p = ProblemClones(problem=Problem(task_id="t", prompt="def f():", organization="acme"),
        ...     stratum="heldout", n_samples=1, clones=())
        >>> [(m.cell, m.value) for m in allowed_clones([p], subject="s")]
        [('acme heldout', 0.0)]
    """
    asked: dict[tuple[str, str], list[ProblemClones]] = {}
    for p in only(marked, lambda clone: bool(clone.allowed)):
        asked.setdefault((p.problem.organization, p.stratum), []).append(p)
    chosen = [(owner, stratum, prompts) for (owner, stratum), prompts in asked.items()]
    counts = counts_of(chosen, subject=subject, signature=signature)
    return [replace(m, name="allowed_clones") for m in counts if m.name == "distinct_clones"]


def _marked(p: ProblemClones, texts: Mapping[str, str], allowed: Allowed, normalization: str) -> tuple[Clone, ...]:
    clones = []
    for clone in p.clones:
        place = clone.generated
        numbers, lines = significant(texts[place.path], normalization)
        own = [line for n, line in zip(numbers, lines, strict=True) if place.first_line <= n <= place.last_line]
        clones.append(replace(clone, allowed=allowed.reason(own, fingerprint=clone.fingerprint)))
    return tuple(clones)
