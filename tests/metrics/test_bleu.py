"""BLEU against the tools' own numbers; laws of both variants."""

import pytest
from sacrebleu import corpus_bleu

from pytest_collabcode.errors import EmptyMeasurementError
from pytest_collabcode.intervals import interval_of
from pytest_collabcode.metrics.bleu import codexglue, sacrebleu

PREDICTIONS = [
    "return a + b",
    "for x in items:\n    total += x\n    return total",
    "",
    "if not path.exists():\n    raise ValueError(path)",
]
REFERENCES = [
    "return a - b",
    "for item in items:\n    total += item\nreturn total",
    "pass",
    "if not path.exists():\n    raise ValueError(path)",
]


@pytest.mark.parametrize(
    "metric, golden",
    [
        (sacrebleu, 72.37739660305674),  # sacrebleu 2.6.0, corpus_bleu with its defaults
        (codexglue, 52.814248056406534),  # CodeT5 evaluator/bleu.py at 71ccd12, before it rounds to two digits
    ],
)
def test_the_value_is_the_reference_tools(metric, golden):
    assert metric(PREDICTIONS, REFERENCES, subject="s").value == pytest.approx(golden, abs=1e-9)


@pytest.mark.parametrize("metric", [sacrebleu, codexglue])
@pytest.mark.parametrize("prediction", [REFERENCES[1], PREDICTIONS[1], REFERENCES[1][:20], "x", ""])
def test_replicates_of_one_problem_repeated_are_its_value(metric, prediction):
    measured = metric([prediction] * 4, [REFERENCES[1]] * 4, subject="s")
    assert measured.replicates == pytest.approx([measured.value] * len(measured.replicates))


@pytest.mark.parametrize("metric", [sacrebleu, codexglue])
def test_the_interval_holds_the_value_and_is_the_same_every_time(metric):
    first, second = (metric(PREDICTIONS * 25, REFERENCES * 25, subject="s") for _ in range(2))
    low, high = interval_of(first)
    assert 0 <= low < first.value < high <= 100
    assert first.replicates == second.replicates


@pytest.mark.parametrize("metric", [sacrebleu, codexglue])
def test_equal_texts_score_100_and_empty_outputs_score_0(metric):
    references = [REFERENCES[1], REFERENCES[3]]
    assert metric(references, references, subject="s").value == pytest.approx(100)
    assert metric(["", ""], references, subject="s").value == 0.0


def test_the_signature_says_how_sacrebleu_counted():
    signature = dict(sacrebleu(PREDICTIONS, REFERENCES, subject="s", signature=(("T", "0"),)).signature)
    assert (signature["T"], signature["tok"], signature["smooth"], signature["case"]) == ("0", "13a", "exp", "mixed")
    assert "version" in signature


def test_the_value_follows_the_installed_sacrebleu():
    assert sacrebleu(PREDICTIONS, REFERENCES, subject="s").value == corpus_bleu(PREDICTIONS, [REFERENCES]).score


@pytest.mark.parametrize("metric", [sacrebleu, codexglue])
def test_no_problems_and_unequal_numbers_are_refused(metric):
    with pytest.raises(EmptyMeasurementError):
        metric([], [], subject="s")
    with pytest.raises(ValueError, match="1 texts for 0 references"):
        metric(["a"], [], subject="s")


def test_references_without_a_word_are_nothing_to_measure():
    with pytest.raises(EmptyMeasurementError, match="no reference"):
        codexglue(["a"], [" "], subject="s")
