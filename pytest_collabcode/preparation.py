"""Preparation: what the collected tests will need, computed in worker processes before the first test runs.

Not covered: throughput, which is timed in the tests, alone on the machine.
"""

from __future__ import annotations

from collections.abc import Iterable

from pytest_collabcode.measures import Measures
from pytest_collabcode.opening import VLLM
from pytest_collabcode.progress import Progress
from pytest_collabcode.training.recipes import about_n_parameters
from pytest_collabcode.workers import Job, run_jobs

WORK_OF_METRIC = {
    "pass": "humaneval",
    "bleu.sacrebleu": "completion",
    "bleu4.codexglue": "completion",
    "exact_match": "completion",
    "edit_similarity": "completion",
    "mrr": "retrieval",
    "mrr_over_chance": "retrieval",
    "perplexity": "perplexity",
    "bits_per_byte": "perplexity",
    "perplexity_gain_over_unigram": "perplexity",
    "perplexity_relative": "perplexity",
    "memorization_ratio": "memorization",
    "line_ratio": "memorization",
    "licence_header_ratio": "memorization",
    "memorization_over_heldout": "memorization",
    "cross_organization_clone_ratio": "memorization",
    "near_clone_ratio": "memorization",
    "copyleft_clone_ratio": "memorization",
    "allowed_clones": "memorization",
    "distinct_clones": "memorization",
    "clone_lines": "memorization",
    "memorization_lift": "controls",
    "memorization_over_base": "controls",
    "near_verbatim_ratio.bleu75": "memorization",
    "near_verbatim_ratio.edit90": "memorization",
    "discoverable": "extraction",
    "membership_auroc": "extraction",
    "canary_exposure": "canaries",
}
LATE = {"controls", "canaries"}  # they ask control models too
COST = {  # CPU-seconds of SmolLM2, or of training a regime of the demo: what takes long must not come last
    "train": 300.0,
    "memorization": 260.0,
    "extraction": 200.0,
    "retrieval": 130.0,
    "humaneval": 70.0,
    "perplexity": 35.0,
    "completion": 20.0,
}


def prepare(measures: Measures, wanted: Iterable[tuple[str, str]], *, has_own_backends: bool = False) -> None:
    """Compute what is wanted and not stored yet; failures are kept for the tests that need the results.

    Args:
        measures: of the session.
        wanted: (subject, base name of a metric).
        has_own_backends: backends come from a conftest that a worker would not know: nothing is prepared.
    Example:
        >>> from pathlib import Path
        >>> from tempfile import TemporaryDirectory
        >>> from pytest_collabcode.pipeline import Pipeline
        >>> from pytest_collabcode.settings import make_settings
        >>> from pytest_collabcode.workbench import open_workbench
        >>> with TemporaryDirectory() as folder:
        ...     options = {"store": folder, "workers": "1"}  # one worker alone: each test computes its own
        ...     measures = Measures(Pipeline(open_workbench(make_settings(directory=Path(folder), options=options))))
        ...     prepare(measures, [("demo/fedavg", "pass")])
        >>> measures.pipeline.failures
        {}
    """
    pipeline, progress = measures.pipeline, Progress()
    pipeline.bench.report = lambda done, total, text: progress.update("collabcode", done, total, text)
    note, on_vllm = pipeline.bench.note, pipeline.settings.backend == VLLM  # which takes all GPUs for one process
    if pipeline.settings.workers < 2 or has_own_backends or on_vllm:
        return
    works: dict[str, set[str]] = {}
    for subject, metric in wanted:
        if metric in WORK_OF_METRIC:
            works.setdefault(subject, set()).add(WORK_OF_METRIC[metric])
    jobs = [job for subject, names in works.items() for job in _jobs(measures, subject, names - LATE)]
    pipeline.failures |= run_jobs(pipeline.settings, jobs, progress, note=note)
    # Controls are stages of other subjects' training, so they come when all training is done.
    late = [
        Job(subject=subject, works=missing, cost=len(missing), n_parameters=_n_parameters(measures, subject))
        for subject, names in works.items()
        if (missing := tuple(sorted(w for w in names & LATE if not measures.is_stored(subject, w))))
    ]
    for jobs in (late[:1], late[1:]):  # the first asks the controls, the others find most of their answers stored
        pipeline.failures |= run_jobs(pipeline.settings, jobs, progress, note=note)


def _jobs(measures: Measures, subject: str, names: set[str]) -> list[Job]:
    missing = sorted(work for work in names if not measures.is_stored(subject, work))
    n_parameters = _n_parameters(measures, subject)
    if measures.pipeline.bench.subjects[subject].checkpoint is not None:
        # Nothing to train first, so its works are independent of each other.
        return [
            Job(subject=subject, works=(work,), cost=COST.get(work, 50.0), n_parameters=n_parameters)
            for work in missing
        ]
    cost = 20.0 * len(missing)
    if not measures.is_stored(subject, "train"):
        missing, cost = ["train", *missing], cost + COST["train"]
    return [Job(subject=subject, works=tuple(missing), cost=cost, n_parameters=n_parameters)] if missing else []


def _n_parameters(measures: Measures, subject: str) -> int:
    """Return about how many parameters a subject has, trained or not."""
    trainings = measures.pipeline.trainings
    known = measures.pipeline.bench.subjects[subject].checkpoint or trainings.base
    return known.n_parameters if known is not None else about_n_parameters(trainings.recipe)
