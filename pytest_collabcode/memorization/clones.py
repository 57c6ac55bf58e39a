"""Clones: maximal runs of significant lines that a completion shares with one training document.

A completion is continuation text. Its first line is dropped when the prompt ends inside a line that has something on
it: that line was begun by the prompt and is a prompt line. It keeps its number, so line 2 is always line 2.
Not covered: renamed identifiers (type 2) and near copies (type 3).
Source: Chen and Jiang 2024, arXiv 2409.12020, for runs of six lines.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from pytest_collabcode.clones.index import CloneIndex
from pytest_collabcode.clones.runs import Run, by_organization, holds, maximal, runs_of
from pytest_collabcode.digests import digest_bytes
from pytest_collabcode.errors import MeasurementError
from pytest_collabcode.lines import significant_lines
from pytest_collabcode.records import Clone, Fragment, Generation, Problem


@dataclass(frozen=True, slots=True, kw_only=True)
class ProblemClones:
    """All clones in the completions of one problem."""

    problem: Problem
    stratum: str  # of the prompt: "natural", "planted" or "heldout"
    n_samples: int
    clones: tuple[Clone, ...]


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
    numbered = list(continuation_lines(completion, prompt=prompt))
    runs = runs_of(index, index.line_ids([line for _, line in numbered]))
    planted = maximal([run for run in runs if index.documents[index.document[run.position]].planted])
    kept = {owner: maximal(own) for owner, own in by_organization(index, runs).items()}
    return [
        Clone(
            generated=_generated_fragment(numbered, run, f"{task_id}#{sample_index}"),
            training=_training_fragment(index, owner, run),
            significant_lines=run.stop - run.first,
            fingerprint=_fingerprint(line for _, line in numbered[run.first : run.stop]),
            organizations=tuple(sorted(o for o, others in kept.items() if holds(others, run))),
            planted=_is_planted(run, planted, index.min_lines),
        )
        for owner, own in sorted(kept.items())
        for run in own
    ]


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
    n_samples = max(map(len, by_task.values()), default=0)
    return [_scan_problem(index, p, by_task[p.task_id], n_samples=n_samples, heldout=heldout) for p in problems]


def continuation_lines(completion: str, *, prompt: str = "") -> Iterator[tuple[int, str]]:
    """Yield (1-based line of the completion, stripped line) of every significant line that is the model's own.

    Args:
        completion: continuation text.
        prompt: what it continues; if its last line has something on it, the completion's first line is the rest of
            a prompt line and is dropped.
    Example:
        >>> list(continuation_lines(" -> int:\\n    return 1", prompt="def f()"))
        [(2, 'return 1')]
        >>> list(continuation_lines("return 1", prompt="def f():\\n    "))
        [(1, 'return 1')]

    """
    first = first_own_line(prompt)
    return ((number, line) for number, line in significant_lines(completion) if number >= first)


def first_own_line(prompt: str) -> int:
    """Return the first line of a completion that is wholly the model's: 2 if the prompt ends inside a line, else 1.

    Example:
        >>> first_own_line("def f():"), first_own_line("def f():\\n"), first_own_line("def f():\\n    ")
        (2, 1, 1)

    """
    return 2 if prompt.replace("\r", "\n").rpartition("\n")[2].strip() else 1


def _scan_problem(
    index: CloneIndex, problem: Problem, generations: Sequence[Generation], *, n_samples: int, heldout: bool
) -> ProblemClones:
    if not generations or len(generations) != n_samples:
        raise MeasurementError(
            f"task_id={problem.task_id!r}: {len(generations)} generations where {n_samples or 1} are expected; "
            "generate the rest first"
        )
    clones: list[Clone] = []
    for g in generations:
        clones += find_clones(
            index, g.completion, task_id=g.task_id, sample_index=g.sample_index, prompt=problem.prompt
        )
    stratum = "planted" if problem.planted else "natural"
    return ProblemClones(
        problem=problem, stratum="heldout" if heldout else stratum, n_samples=n_samples, clones=tuple(clones)
    )


def _is_planted(run: Run, planted: Sequence[Run], min_lines: int) -> bool:
    covered: set[int] = set()
    for other in planted:
        shared = range(max(run.first, other.first), min(run.stop, other.stop))
        if len(shared) >= min_lines:  # shorter ones are no clones of planted code
            covered.update(shared)
    return run.stop - run.first - len(covered) < min_lines


def _generated_fragment(numbered: Sequence[tuple[int, str]], run: Run, path: str) -> Fragment:
    first, last = numbered[run.first][0], numbered[run.stop - 1][0]
    return Fragment(organization="", path=path, first_line=first, last_line=last)


def _training_fragment(index: CloneIndex, owner: str, run: Run) -> Fragment:
    last = run.position + run.stop - run.first - 1
    return Fragment(
        organization=owner,
        path=index.documents[index.document[run.position]].path,
        first_line=int(index.numbers[run.position]),
        last_line=int(index.numbers[last]),
    )


def _fingerprint(lines: Iterable[str]) -> str:
    return digest_bytes("\n".join(lines).encode("utf-8", "surrogatepass"))
