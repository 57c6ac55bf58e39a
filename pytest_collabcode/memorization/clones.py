"""Clones: maximal runs of significant lines that a completion shares with one training document.

A completion is continuation text. Its first line is dropped when the prompt ends inside a line that has something on
it: that line was begun by the prompt and is a prompt line. It keeps its number, so line 2 is always line 2.
Not covered: renamed identifiers (type 2) and near copies (type 3).
Source: Chen and Jiang 2024, arXiv 2409.12020, for runs of six lines.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pytest_collabcode.clones.index import CloneIndex
from pytest_collabcode.clones.normalize import significant
from pytest_collabcode.clones.runs import Run, by_organization, holds, maximal
from pytest_collabcode.digests import digest_bytes
from pytest_collabcode.errors import MeasurementError
from pytest_collabcode.records import Clone, Fragment, Generation, Problem

Numbered = tuple[list[int], list[str]]  # line numbers of a completion, and its normalized significant lines


@dataclass(frozen=True, slots=True, kw_only=True)
class ProblemClones:
    """All clones in the completions of one problem."""

    problem: Problem
    stratum: str  # of the prompt: "natural", "planted" or "heldout"
    n_samples: int
    clones: tuple[Clone, ...]
    line_numbers: tuple[tuple[int, ...], ...] = ()  # per sample, the significant lines that are the model's own


def find_clones(
    index: CloneIndex, completion: str, *, task_id: str, sample_index: int, prompt: str = ""
) -> list[Clone]:
    """Find what a completion shares with the indexed documents.

    Args:
        index: of the training documents.
        completion: continuation text, without the prompt.
        task_id: of the problem; names the generated fragment together with sample_index.
        sample_index: of the completion.
        prompt: what the completion continues; only its last line matters.
    Returns:
        For each organization the maximal runs of at least index.min_lines significant lines that stand in one of
        its documents, without those contained in another run of that organization; ordered by organization and
        line. If several documents hold a run, the first by path is named. `organizations` are all whose documents
        hold the run entirely. `planted`: it shares min_lines or more with a planted document, and fewer than
        min_lines are left beside that, so that what is left is no clone by itself.
    Example:
        >>> from pytest_collabcode.records import Document
        >>> text = "import os\\na = 1\\nb = 2\\nc = 3\\n"
        >>> index = CloneIndex.build([Document(path="x.py", text=text, organization="acme")], min_lines=2)
        >>> clones = find_clones(index, "    b = 2\\n\\n    c = 3\\n    d = 4\\n", task_id="t", sample_index=0)
        >>> [(str(c.generated), str(c.training), c.significant_lines) for c in clones]
        [('t#0:1-3', 'acme:x.py:3-4', 2)]

    """
    numbered = own_lines(completion, prompt=prompt, normalization=index.normalization)
    return _clones(index, numbered, index.find(numbered[1]), f"{task_id}#{sample_index}")


def scan(
    index: CloneIndex, problems: Sequence[Problem], generations: Sequence[Generation], *, heldout: bool = False
) -> list[ProblemClones]:
    """Find the clones in the completions of every problem.

    Args:
        index: of the training documents.
        problems: the prompts, with organization and planted.
        generations: of exactly these problems, the same number for each, in any order.
        heldout: the prompts are held-out functions, the control.
    Returns:
        One record per problem, in the order of problems.
    Raises:
        MeasurementError: a problem has no generation or another number than the rest, or a generation belongs to
            no problem.
    Example:
        >>> problem = Problem(task_id="acme:x.py:1", prompt="def f():", organization="acme")
        >>> generation = Generation(task_id="acme:x.py:1", sample_index=0, completion="", n_tokens=0, duration_s=0.0,
        ...     stop_reason="eos")
        >>> scan(CloneIndex.build([]), [problem], [generation])[0].clones
        ()

    """
    by_task: dict[str, list[Generation]] = {p.task_id: [] for p in problems}
    for generation in sorted(generations, key=lambda g: g.sample_index):
        if generation.task_id not in by_task:
            raise MeasurementError(f"task_id={generation.task_id!r}: a generation of no problem in this task")
        by_task[generation.task_id].append(generation)
    n_samples = max(map(len, by_task.values()), default=0) or 1
    numbered: dict[tuple[str, int], Numbered] = {}
    for problem in problems:
        own = by_task[problem.task_id]
        if len(own) != n_samples:
            raise MeasurementError(
                f"task_id={problem.task_id!r}: {len(own)} generations where {n_samples} are expected; "
                "generate the rest first"
            )
        for g in own:
            key = (g.task_id, g.sample_index)
            numbered[key] = own_lines(g.completion, prompt=problem.prompt, normalization=index.normalization)
    runs = dict(zip(numbered, index.find_all([lines for _, lines in numbered.values()]), strict=True))
    return [
        ProblemClones(
            problem=problem,
            stratum="heldout" if heldout else "planted" if problem.planted else "natural",
            n_samples=n_samples,
            clones=tuple(
                clone
                for g in by_task[problem.task_id]
                for key in [(g.task_id, g.sample_index)]
                for clone in _clones(index, numbered[key], runs[key], f"{g.task_id}#{g.sample_index}")
            ),
            line_numbers=tuple(tuple(numbered[g.task_id, g.sample_index][0]) for g in by_task[problem.task_id]),
        )
        for problem in problems
    ]


def own_lines(completion: str, *, prompt: str = "", normalization: str = "verbatim") -> Numbered:
    """Return (1-based lines of the completion, normalized lines) of every significant line that is the model's own.

    Args:
        completion: continuation text.
        prompt: what it continues; if its last line has something on it, the completion's first line is the rest of
            a prompt line and is dropped.
        normalization: of the index that will be asked.
    Example:
        >>> own_lines(" -> int:\\n    return 1", prompt="def f()")
        ([2], ['return 1'])
        >>> own_lines("return 1", prompt="def f():\\n    ")
        ([1], ['return 1'])
    """
    numbers, lines = significant(completion, normalization)
    skipped = sum(number < first_own_line(prompt) for number in numbers)
    return numbers[skipped:], lines[skipped:]


def first_own_line(prompt: str) -> int:
    """Return the first line of a completion that is wholly the model's: 2 if the prompt ends inside a line, else 1.

    Example:
        >>> first_own_line("def f():"), first_own_line("def f():\\n"), first_own_line("def f():\\n    ")
        (2, 1, 1)
    """
    return 2 if prompt.replace("\r", "\n").rpartition("\n")[2].strip() else 1


def _clones(index: CloneIndex, numbered: Numbered, runs: Sequence[Run], path: str) -> list[Clone]:
    numbers, lines = numbered
    planted = maximal(run for run in runs if run.origin.planted)
    kept = {owner: maximal(own) for owner, own in by_organization(runs).items()}
    return [
        Clone(
            generated=Fragment(
                organization="", path=path, first_line=numbers[run.first], last_line=numbers[run.stop - 1]
            ),
            training=Fragment(
                organization=owner, path=run.origin.path, first_line=run.first_line, last_line=run.last_line
            ),
            significant_lines=run.stop - run.first,
            fingerprint=run.fingerprint or fragment_fingerprint(lines[run.first : run.stop]),
            organizations=tuple(sorted(o for o, others in kept.items() if holds(others, run))),
            planted=_is_planted(run, planted, index.min_lines),
            header=run.stop - run.first - run.n_header < index.min_lines and run.n_header > 0,
            licence=run.origin.licence,
            copies=run.copies,
        )
        for owner, own in sorted(kept.items())
        for run in own
    ]


def fragment_fingerprint(lines: Sequence[str]) -> str:
    """Return what stands for a fragment's code in reports: the digest of its normalized significant lines.

    Example:
        >>> fragment_fingerprint(["a = 1"]) == fragment_fingerprint(["a = 2"])
        False
    """
    return digest_bytes("\n".join(lines).encode("utf-8", "surrogatepass"))


def _is_planted(run: Run, planted: Sequence[Run], min_lines: int) -> bool:
    covered: set[int] = set()
    for other in planted:
        shared = range(max(run.first, other.first), min(run.stop, other.stop))
        if len(shared) >= min_lines:  # shorter ones are no clones of planted code
            covered.update(shared)
    return run.stop - run.first - len(covered) < min_lines
