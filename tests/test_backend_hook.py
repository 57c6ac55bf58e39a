"""The hook pytest_collabcode_load_backend, as a plugin of somebody's own uses it."""

import json
import math

import pytest

from pytest_collabcode.models.architectures import build
from pytest_collabcode.models.tokenizer import train_tokenizer
from pytest_collabcode.training.recipes import recipe

CONFTEST = """
from pathlib import Path

from pytest_collabcode.records import Generation, TextScore

class Parrot:
    def __init__(self, checkpoint):
        self.checkpoint = checkpoint
        with Path("calls.txt").open("a") as file:
            file.write(f"made for {checkpoint.name}\\n")

    def generate(self, problems, sampling):
        return [
            Generation(task_id=p.task_id, sample_index=i, completion="    return 1\\n", n_tokens=3, duration_s=0.0,
                stop_reason="eos")
            for p in problems for i in range(sampling.n_samples)
        ]

    def log_likelihood(self, texts, *, max_tokens):
        sizes = [len(text.encode()) for text in texts]
        return [TextScore(log_likelihood=-0.5 * n, n_tokens=n, n_bytes=n, token_ids=(1,) * n) for n in sizes]

    def embed(self, texts):
        return [[1.0, 0.0] for _ in texts]

def pytest_collabcode_load_backend(checkpoint, device):
    return Parrot(checkpoint) if (checkpoint.path / "parrot.txt").exists() else None
"""
SUITE = """
import pytest
from pytest_collabcode.records import Measurement, Problem, Sampling

@pytest.mark.measures("acme.parrots")
def test_texts(model, generations, subject, gate):
    drawn = generations([Problem(task_id="a", prompt="def f():")], Sampling(n_samples=2, max_new_tokens=8))
    n = sum(g.completion == "    return 1\\n" for g in drawn)
    gate(Measurement(name="acme.parrots", subject=subject, value=n / 2, count=n, n=2))

@pytest.mark.measures("bits_per_byte")
def test_heldout(perplexity, gate):
    gate(*perplexity)

@pytest.mark.measures("membership_auroc")
def test_membership(membership, gate):
    gate(*membership)
"""
THRESHOLDS = """schema = 1
own_metrics = ["acme.parrots"]
[[threshold]]
id = "parrots"
metric = "acme.parrots"
subjects = ["parrot"]
at_least = 0.1
[[threshold]]
id = "predicts"
metric = "bits_per_byte"
at_most = 100
[[threshold]]
id = "member"
metric = "membership_auroc"
subjects = ["parrot"]
at_least = 0.01
"""


@pytest.fixture
def run(pytester, tiny_options):
    for name in ("parrot", "ordinary"):
        folder = pytester.path / name
        build(recipe("llama-smoke"), 1).save_pretrained(folder)
        train_tokenizer(["def f(x):\n    return x\n"] * 3, vocabulary_size=300).save_pretrained(folder)
    (pytester.path / "parrot" / "parrot.txt").touch()
    (pytester.path / "t.toml").write_text(THRESHOLDS)
    pytester.makepyfile(test_suite=SUITE)

    def run():
        pytester.makeconftest(CONFTEST)
        models = ["--model=parrot", "--model=ordinary", "--collabcode-report=json:r.json"]
        options = [*tiny_options, "--collabcode-workers=1", "--collabcode-thresholds=t.toml", *models]
        result = pytester.runpytest_subprocess(*options, timeout=300)
        report = json.loads((pytester.path / "r.json").read_text())
        return result.ret, "\n".join(result.outlines + result.errlines), report["measurements"]

    return run


def bits(measurements):
    """Return bits per byte and the signature's back end of each subject."""
    pooled = [m for m in measurements if m["name"] == "bits_per_byte" and not m["prompt_organization"]]
    return {m["subject"]: (m["value"], dict(m["signature"]).get("backend", "")) for m in pooled}


def test_a_conftest_supplies_the_back_end_of_the_checkpoints_it_knows(run, pytester):
    code, text, measured = run()
    assert code == 1, text  # it scores no tokens, which a required threshold asks for
    assert "PASS       parrots acme.parrots = 1 (2/2)" in text
    assert "UNMEASURED member membership_auroc [parrot] parrot: its backend has no token_scores" in text
    # Both have the same weights, but what one back end said is not taken for the other's.
    (parrot, its_name), (ordinary, nothing) = bits(measured)["parrot"], bits(measured)["ordinary"]
    assert (its_name, nothing) == ("Parrot", "") and math.isclose(parrot, 0.5 / math.log(2)) and ordinary > 2 * parrot
    assert (pytester.path / "calls.txt").read_text() == "made for parrot\n"
