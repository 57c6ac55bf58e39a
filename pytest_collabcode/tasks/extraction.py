"""The extraction task: the true body of a function, token by token and almost verbatim.

Near-verbatim compares significant lines, as clones do, and like with like. A completion that runs on after the body
is cut to the body's number of lines, since what follows is another question. A completion that the token limit ended
loses its last line, which is unfinished, and is compared with as many lines of the body, yet never with fewer than
make a clone: a completion too short to be one pays for it. One that ended by itself is compared with the whole body.
Not covered: drawing samples, and counting exact clones (tasks/memorization).
Sources: Ippolito et al. 2023, arXiv 2210.17546, for BLEU > 0.75; Post 2018 for sentence BLEU.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from sacrebleu.metrics import BLEU

from pytest_collabcode.errors import MeasurementError
from pytest_collabcode.lines import significant_lines
from pytest_collabcode.memorization.clones import own_lines
from pytest_collabcode.memorization.extraction import Hit, ScoredFunction, continuation, hit_ratios
from pytest_collabcode.metrics.edit_similarity import levenshtein_ratio
from pytest_collabcode.records import Generation, Measurement, Problem, Sampling, Signature, TokenScores

BLEU_CUT_OFF = 0.75  # above
EDIT_CUT_OFF = 0.9  # at least

IsClose = Callable[[str, str], bool]


def pairs(problems: Sequence[Problem]) -> list[tuple[str, str]]:
    """Return prompt and true continuation of each problem, for `Backend.token_scores`.

    Example:
        >>> pairs([Problem(task_id="t", prompt="def f():", canonical_solution="    return 1")])
        [('def f():', '\\n    return 1')]

    """
    return [(problem.prompt, continuation(problem)) for problem in problems]


def scored(problems: Sequence[Problem], scores: Sequence[TokenScores], *, stratum: str) -> list[ScoredFunction]:
    """Return the problems of one stratum with their scores, in order.

    Raises:
        ValueError: they differ in number.
    Example:
        >>> scored([], [], stratum="natural")
        []

    """
    return [
        ScoredFunction(problem=problem, stratum=stratum, scores=score)
        for problem, score in zip(problems, scores, strict=True)
    ]


def scheme_signature(sampling: Sampling) -> Signature:
    """Return the sampling scheme as it stands on every verdict.

    Example:
        >>> scheme_signature(Sampling(temperature=0.6, top_p=0.6, max_new_tokens=8))
        (('tokens', '8'), ('T', '0.6'), ('top_p', '0.6'), ('top_k', '0'), ('rp', '1'))

    """
    return (
        ("tokens", str(sampling.max_new_tokens)),
        ("T", f"{sampling.temperature:g}"),
        ("top_p", f"{sampling.top_p:g}"),
        ("top_k", str(sampling.top_k)),
        ("rp", f"{sampling.repetition_penalty:g}"),
    )


def near_verbatim(
    problems: Sequence[Problem],
    generations: Sequence[Generation],
    *,
    heldout: Sequence[Problem] = (),
    min_lines: int,
    subject: str,
    signature: Signature = (),
) -> list[Measurement]:
    """Count prompts of which a sample comes close to the true body.

    Args:
        problems: training functions, natural and planted.
        generations: of all problems and held-out ones, in any order.
        heldout: held-out functions, asked as a control.
        min_lines: significant lines that make a clone.
        subject: name of the model.
        signature: how the completions were drawn.
    Returns:
        Measurements "near_verbatim_ratio.bleu75" and "near_verbatim_ratio.edit90" as of `hit_ratios`. A natural
        prompt whose sample is close to a planted body too counts under "natural→planted", since the plant, repeated
        on purpose, explains it.
    Raises:
        EmptyMeasurementError: no prompts.
        MeasurementError: a problem has no generation.
    Example:
        >>> asked = Problem(task_id="t", prompt="def f():", canonical_solution="    a = 1\\n    return a + 2",
        ...     organization="acme")
        >>> drawn = Generation(task_id="t", sample_index=0, completion="\\n    a = 1\\n    return a + 3", n_tokens=9,
        ...     duration_s=0.1, stop_reason="eos")
        >>> [(m.name, m.count) for m in near_verbatim([asked], [drawn], min_lines=2, subject="s")]
        [('near_verbatim_ratio.bleu75', 1), ('near_verbatim_ratio.edit90', 1)]

    """
    drawn: dict[str, list[Generation]] = {}
    for generation in generations:
        drawn.setdefault(generation.task_id, []).append(generation)
    plants = [p for p in problems if p.planted]
    own = (("compared", f"significant lines, >={min_lines}"), *signature)
    measured = []
    for name, how, is_close in _VARIANTS:

        def is_hit(problem: Problem, bodies: Sequence[Problem], is_close: IsClose = is_close) -> bool:
            asked = ((b.canonical_solution, problem.prompt, g) for b in bodies for g in _samples(drawn, problem))
            return any(is_close(*_like_with_like(*question, min_lines=min_lines)) for question in asked)

        hits: list[Hit] = [(p, "heldout", is_hit(p, [p])) for p in heldout]
        hits += [(p, "planted", is_hit(p, [p])) for p in plants]
        for p in problems:
            if not p.planted:
                hit = is_hit(p, [p])
                explained = hit and is_hit(p, plants)
                hits.append((p, "natural", hit and not explained))
                hits += [(p, "natural→planted", explained)] if plants else []
        measured += hit_ratios(f"near_verbatim_ratio.{name}", hits, subject=subject, signature=(("near", how), *own))
    return measured


def _is_close_by_bleu(ours: str, true: str) -> bool:
    score: float = _BLEU.sentence_score(ours, [true]).score
    return score > 100 * BLEU_CUT_OFF


def _is_close_by_edits(ours: str, true: str) -> bool:
    return levenshtein_ratio(ours, true) >= EDIT_CUT_OFF


_BLEU = BLEU(effective_order=True)
_VARIANTS = (
    ("bleu75", f"sentence BLEU-4>{BLEU_CUT_OFF:g},tok:13a", _is_close_by_bleu),
    ("edit90", f"Levenshtein ratio>={EDIT_CUT_OFF:g}", _is_close_by_edits),
)


def _samples(drawn: Mapping[str, Sequence[Generation]], problem: Problem) -> Sequence[Generation]:
    if problem.task_id not in drawn:
        raise MeasurementError(f"task_id={problem.task_id!r} has no generation; generate the rest first")
    return drawn[problem.task_id]


def _like_with_like(body: str, prompt: str, generation: Generation, *, min_lines: int) -> tuple[str, str]:
    """Return the significant lines of a completion and of a body that are compared."""
    _, ours = own_lines(generation.completion, prompt=prompt)
    true = [line for _, line in significant_lines(body)]
    if generation.stop_reason == "length":
        ours = ours[:-1]
        true = true[: max(min_lines, len(ours))]
    return "\n".join(ours[: len(true)]), "\n".join(true)
