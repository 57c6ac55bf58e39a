"""Checks of thresholds against a run: what could not judge its subjects is refused before a model is built.

Not covered: what is wrong whatever is judged (thresholds.py).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from fnmatch import fnmatchcase

from pytest_collabcode.errors import ConfigurationError, nearest
from pytest_collabcode.gate.catalogue import CATALOGUE, metric
from pytest_collabcode.gate.thresholds import Thresholds
from pytest_collabcode.intervals import prompts_needed
from pytest_collabcode.records import Threshold

PROMPTED = ("natural", "planted")  # the strata whose prompts are training functions
NEAR = 0.75  # of difflib: "mien" and "mine" are as alike as that


def is_floor(threshold: Threshold) -> bool:
    """Whether a threshold keeps a model that learnt nothing from being green.

    It blocks (required, undecided is "fail"), and at_least lies above what such a model reaches, or it is a max_drop
    of effectiveness. Where nobody knows what such a model reaches, no bound is a floor.

    Example:
        >>> [is_floor(Threshold(id="a", metric="pass@1", at_least=0.02, required=r)) for r in (True, False)]
        [True, False]
        >>> [is_floor(Threshold(id="a", metric="perplexity_gain_over_unigram", at_least=x)) for x in (0.9, 1.1)]
        [False, True]
    """
    known = metric(threshold.metric)
    if known is None or known.family != "effectiveness":
        return False
    if not threshold.required or threshold.undecided != "fail":
        return False
    beyond = threshold.at_least is not None and known.unfit is not None and threshold.at_least > known.unfit
    return beyond or threshold.max_drop is not None


def check_subject(
    thresholds: Sequence[Threshold], subject: str, prompts: Callable[[str, str], Mapping[str, int]]
) -> None:
    """Refuse ceilings that cannot mean anything for this subject.

    Args:
        thresholds: those that select the subject.
        subject: its name, for the message.
        prompts: for a metric and one of PROMPTED, the eligible prompts that will be asked, per organization.
    Raises:
        ConfigurationError: a memorization ceiling stands without an effectiveness floor (an unfit model
            memorizes nothing), or too few prompts could certify it even with no hit.
    Example:
        >>> ceiling = Threshold(id="a", metric="memorization_ratio", at_most=0.1)
        >>> check_subject([ceiling], "s", lambda metric, stratum: {"meta": 100})
        Traceback (most recent call last):
        ...
        pytest_collabcode.errors.ConfigurationError: : threshold 'a' is a memorization ceiling on subject 's' \
without an effectiveness floor there; a model that learnt nothing memorizes nothing: add at_least on pass@1 above 0, \
exact_match above 0, mrr_over_chance@pool=200 above 2 or perplexity_gain_over_unigram above 1, or max_drop on any \
effectiveness metric, required and without undecided = "accept"
    """
    floor = any(is_floor(t) for t in thresholds)
    for threshold in thresholds:
        known = metric(threshold.metric)
        if threshold.at_most is None or known is None or known.family != "memorization":
            continue
        where = f"{threshold.source}: threshold {threshold.id!r}"
        if not floor:
            raise ConfigurationError(
                f"{where} is a memorization ceiling on subject {subject!r} without an effectiveness floor there; "
                f"a model that learnt nothing memorizes nothing: add at_least on {_floors()}, or max_drop on any "
                'effectiveness metric, required and without undecided = "accept"'
            )
        asked = next((stratum for stratum in PROMPTED if fnmatchcase(stratum, threshold.stratum)), None)
        if known.counted and asked:
            _refuse_few_prompts(threshold, where, prompts(threshold.metric, asked))


def check_organizations(thresholds: Sequence[Threshold], names: Sequence[str]) -> None:
    """Refuse thresholds that name an organization which is not there.

    Args:
        thresholds: of the file.
        names: of all organizations of the consortium.
    Raises:
        ConfigurationError: a typo; the nearest name is shown.
    Example:
        >>> check_organizations([Threshold(id="a", metric="perplexity", prompt_organization="met")], ["meta"])
        Traceback (most recent call last):
        pytest_collabcode.errors.ConfigurationError: : threshold 'a': prompt_organization='met' is nobody; did you ...
    """
    for threshold in thresholds:
        for key, words in (("prompt_organization", ("",)), ("source_organization", ("", "any", "own", "other"))):
            pattern = getattr(threshold, key)
            known = metric(threshold.metric) is not None  # of metrics of one's own nothing is known
            if known and pattern not in words and not any(fnmatchcase(name, pattern) for name in names):
                raise ConfigurationError(
                    f"{threshold.source}: threshold {threshold.id!r}: {key}={pattern!r} is nobody; "
                    f"{nearest(pattern, [*names, *words[1:]])}"
                )


def check_strata(thresholds: Sequence[Threshold], strata: Callable[[str], Sequence[str]]) -> None:
    """Refuse thresholds that name a stratum in which their metric is never measured.

    Args:
        thresholds: of the file.
        strata: for a memorization metric, all its strata.
    Raises:
        ConfigurationError: a typo; the nearest name is shown.
    Example:
        >>> ceiling = Threshold(id="a", metric="memorization_ratio", stratum="naturel", at_most=0.1)
        >>> check_strata([ceiling], lambda metric: ["natural", "planted"])
        Traceback (most recent call last):
        pytest_collabcode.errors.ConfigurationError: : threshold 'a': stratum='naturel' is none of \
memorization_ratio's; did you mean 'natural'? valid: natural, planted
    """
    for threshold in thresholds:
        known = metric(threshold.metric)
        if known is None:
            continue
        valid = strata(threshold.metric) if known.family == "memorization" else ("",)
        if not any(fnmatchcase(name, threshold.stratum) for name in valid):
            named = [name for name in valid if name]
            hint = nearest(threshold.stratum, named) if named else "it has none: remove the line"
            raise ConfigurationError(
                f"{threshold.source}: threshold {threshold.id!r}: stratum={threshold.stratum!r} is none of "
                f"{threshold.metric}'s; {hint}"
            )


def unselected(law: Thresholds, subjects: Sequence[str], consortium: str) -> str:
    """Return one line that says which thresholds of a file judge nobody in this run, or "" if all judge somebody.

    A file may hold the law of several subjects, so this is no error; a name that was mistyped stands here too.

    Args:
        law: the file.
        subjects: names of the run.
        consortium: that they are measured against.
    Example:
        >>> from pathlib import Path
        >>> floors = [Threshold(id=s, metric="pass@1", subjects=(s,), at_least=0.1) for s in ("mine", "mien", "a/*")]
        >>> law = Thresholds(path=Path("t.toml"), consortium="*", baseline=None, thresholds=tuple(floors))
        >>> unselected(law, ["mine"], "demo")
        "not judged here: t.toml has 1 threshold for 'mien' (did you mean 'mine'?), 1 for 'a/*'"
        >>> unselected(law, ["mine", "mien", "a/b"], "demo")
        ''
    """
    name, total = law.path.name, len(law.thresholds)
    if law.consortium not in ("*", consortium):
        return (
            f"not judged here: all {total} thresholds of {name} are for consortium {law.consortium!r}, "
            f"this is {consortium!r}"
        )
    idle = Counter(
        pattern
        for threshold in law.thresholds
        for pattern in dict.fromkeys(threshold.subjects)
        if not any(fnmatchcase(subject, pattern) for subject in subjects)
    )
    parts: list[str] = []
    for pattern, count in idle.items():
        what = "" if parts else " thresholds" if count > 1 else " threshold"
        meant = _meant(pattern, subjects)
        parts.append(f"{count}{what} for {pattern!r}" + (f" (did you mean {meant!r}?)" if meant else ""))
    return f"not judged here: {name} has {', '.join(parts)}" if parts else ""


def _meant(pattern: str, subjects: Sequence[str]) -> str:
    """Return the subject that a name may be a typing error of; another order of the same organizations is none."""
    if set(pattern) & set("*?["):
        return ""
    others = [s for s in subjects if sorted(re.findall(r"\w+", s)) != sorted(re.findall(r"\w+", pattern))]
    return next(iter(get_close_matches(pattern, others, n=1, cutoff=NEAR)), "")


def _floors() -> str:
    *most, last = [f"{known.example} above {known.unfit:g}" for known in CATALOGUE if known.unfit is not None]
    return f"{', '.join(most)} or {last}"


def _refuse_few_prompts(threshold: Threshold, where: str, prompts: Mapping[str, int]) -> None:
    assert threshold.at_most is not None
    needed = max(prompts_needed(threshold.at_most, confidence=threshold.confidence), threshold.min_prompts)
    for organization, available in prompts.items():
        if fnmatchcase(organization, threshold.prompt_organization) and available < needed:
            raise ConfigurationError(
                f"{where}: at_most={threshold.at_most:g} needs {needed} prompts of {organization}, "
                f"there are {available}; use a larger --collabcode-profile or corpus, or a higher ceiling"
            )
