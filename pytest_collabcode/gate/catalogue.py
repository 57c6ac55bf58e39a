"""The metrics that thresholds may name: their family, range, and what a model that learnt nothing reaches.

That is known where such a model solves nothing (pass@k, exact match) and of ratios: a unigram model gains nothing
over itself, and untrained networks embed well enough for 1.2 to 1.6 times chance in a pool of 200 (four measured,
lower bounds up to 1.08). It is not known of the others: an untrained network was at 3.6 bits per byte, where a
uniform guess takes 8, and at an MRR above 0; one that knew the text worse than a unigram model at BLEU 0.11 and at an
edit similarity of 0.28.
A metric of an organization's own suite is declared in its thresholds file (`own_metrics = ["acme.score"]`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """What a thresholds file may ask of a metric."""

    pattern: str  # regular expression over the whole name
    example: str  # shown in error messages
    family: str  # "effectiveness", "memorization" or "throughput"
    lowest: float = 0.0
    highest: float = float("inf")
    unfit: float | None = None  # of effectiveness: what a model that learnt nothing reaches, where that is known
    counted: bool = False  # hits among prompts: the number of prompts limits what can be certified
    instead: str = ""  # of a rate or a time of one machine: what a bound that holds elsewhere names


CATALOGUE = (
    Metric(pattern=r"pass@[1-9]\d*", example="pass@1", family="effectiveness", highest=1.0, unfit=0.0),
    Metric(pattern=r"bleu\.sacrebleu", example="bleu.sacrebleu", family="effectiveness", highest=100.0),
    Metric(pattern=r"bleu4\.codexglue", example="bleu4.codexglue", family="effectiveness", highest=100.0),
    Metric(pattern=r"exact_match", example="exact_match", family="effectiveness", highest=1.0, unfit=0.0),
    Metric(pattern=r"edit_similarity", example="edit_similarity", family="effectiveness", highest=1.0),
    Metric(pattern=r"mrr@pool=\d+", example="mrr@pool=200", family="effectiveness", highest=1.0),
    Metric(
        pattern=r"mrr_over_chance@pool=\d+", example="mrr_over_chance@pool=200", family="effectiveness", unfit=2.0
    ),
    Metric(pattern=r"perplexity", example="perplexity", family="effectiveness", lowest=1.0),
    Metric(pattern=r"bits_per_byte", example="bits_per_byte", family="effectiveness"),
    Metric(
        pattern=r"perplexity_gain_over_unigram",
        example="perplexity_gain_over_unigram",
        family="effectiveness",
        unfit=1.0,
    ),
    Metric(pattern=r"perplexity_relative", example="perplexity_relative", family="effectiveness"),
    Metric(
        pattern=r"memorization_ratio", example="memorization_ratio", family="memorization", highest=1.0, counted=True
    ),
    Metric(
        pattern=r"cross_organization_clone_ratio",
        example="cross_organization_clone_ratio",
        family="memorization",
        highest=1.0,
        counted=True,
    ),
    Metric(pattern=r"near_clone_ratio", example="near_clone_ratio", family="memorization", highest=1.0, counted=True),
    Metric(pattern=r"line_ratio", example="line_ratio", family="memorization", highest=1.0),
    Metric(
        pattern=r"licence_header_ratio",
        example="licence_header_ratio",
        family="memorization",
        highest=1.0,
        counted=True,
    ),
    *(
        Metric(pattern=name, example=name, family="memorization", lowest=-1.0, highest=1.0)
        for name in ("memorization_lift", "memorization_over_base", "memorization_over_heldout")
    ),
    Metric(
        pattern=r"discoverable@n=[1-9]\d*,p=0\.\d*[1-9]\d*",
        example="discoverable@n=1000,p=0.5",
        family="memorization",
        highest=1.0,
        counted=True,
    ),
    Metric(
        pattern=r"near_verbatim_ratio\.(bleu75|edit90)",
        example="near_verbatim_ratio.bleu75",
        family="memorization",
        highest=1.0,
        counted=True,
    ),
    Metric(pattern=r"membership_auroc", example="membership_auroc", family="memorization", highest=1.0),
    Metric(pattern=r"canary_exposure", example="canary_exposure", family="memorization"),
    Metric(
        pattern=r"copyleft_clone_ratio",
        example="copyleft_clone_ratio",
        family="memorization",
        highest=1.0,
        counted=True,
    ),
    Metric(pattern=r"allowed_clones", example="allowed_clones", family="memorization"),
    Metric(pattern=r"distinct_clones", example="distinct_clones", family="memorization"),
    Metric(pattern=r"clone_lines", example="clone_lines", family="memorization"),
    *(
        Metric(pattern=f"{name}_speedup", example=f"{name}_speedup", family="throughput")
        for name in ("training", "generation", "first_token")
    ),
    *(
        Metric(pattern=rf"{name}(_of_data_sheet)?", example=name, family="throughput", highest=1.0)
        for name in ("training_mfu", "generation_mfu", "first_token_mfu", "decode_mbu")
    ),
    *(
        Metric(pattern=name, example=name, family="throughput", instead=instead)
        for name, instead in (
            ("training_throughput", "training_speedup or training_mfu"),
            ("generation_throughput", "generation_speedup or generation_mfu"),
            ("decode_throughput", "generation_speedup or decode_mbu"),
            ("time_to_first_token", "first_token_speedup or first_token_mfu"),
        )
    ),
    *(
        Metric(pattern=name, example=name, family="throughput")
        for name in ("training_peak_memory", "generation_peak_memory")
    ),
)


def metric(name: str) -> Metric | None:
    """Return the catalogue's entry of a metric name, or None.

    Example:
        >>> metric("pass@10").family
        'effectiveness'
        >>> metric("pass@0") is None
        True
    """
    return next((m for m in CATALOGUE if re.fullmatch(m.pattern, name)), None)


def metric_names() -> list[str]:
    """Return one example name of every metric.

    Example:
        >>> "memorization_ratio" in metric_names()
        True
    """
    return [m.example for m in CATALOGUE]
