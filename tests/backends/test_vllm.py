"""vLLM behind the Backend protocol; what needs a GPU is skipped without one."""

import importlib.util

import pytest
import torch

from pytest_collabcode.backends.vllm import VllmBackend, gpus_for, require_vllm
from pytest_collabcode.errors import ConfigurationError
from pytest_collabcode.generation.engine import TorchBackend
from pytest_collabcode.models.load import load
from pytest_collabcode.records import Problem, Sampling

HERE = importlib.util.find_spec("vllm") is not None
PROBLEMS = [Problem(task_id=f"t/{number}", prompt=f"def total_{number}(rows):\n") for number in range(4)]


@pytest.mark.skipif(HERE, reason="vllm is installed")
def test_without_the_library_its_extra_is_named():
    with pytest.raises(
        ConfigurationError, match=r"vllm is not installed; .* pip install 'pytest-collabcode\[vllm\]'"
    ):
        require_vllm()


@pytest.mark.parametrize(("heads", "gpus", "used"), [(32, 8, 8), (9, 8, 3), (14, 4, 2), (7, 4, 1), (12, 0, 1)])
def test_a_model_is_spread_over_as_many_gpus_as_divide_its_heads(heads, gpus, used):
    assert gpus_for(heads, gpus) == used


@pytest.fixture(scope="module")
def backend(checkpoint):
    pytest.importorskip("vllm", reason="vllm is not installed")
    if not torch.cuda.is_available():
        pytest.skip("vLLM's wheels need a GPU")
    return VllmBackend(checkpoint)


def test_greedy_text_and_likelihoods_are_those_of_the_default_engine(backend, checkpoint):
    own = TorchBackend(load(checkpoint, device="cuda"))
    sampling = Sampling(max_new_tokens=12)
    assert [g.completion for g in backend.generate(PROBLEMS, sampling)] == [
        g.completion for g in own.generate(PROBLEMS, sampling)
    ]
    texts = ["def total(rows):\n    return sum(rows)\n", "", "x"]
    for mine, theirs in zip(*(b.log_likelihood(texts, max_tokens=16) for b in (own, backend)), strict=True):
        assert (theirs.n_tokens, theirs.n_bytes, theirs.token_ids) == (mine.n_tokens, mine.n_bytes, mine.token_ids)
        assert theirs.log_likelihood == pytest.approx(mine.log_likelihood, rel=0.05)


def test_a_sample_depends_on_its_own_seed_only(backend):
    sampling = Sampling(temperature=1.0, max_new_tokens=8, n_samples=3)
    drawn = backend.generate(PROBLEMS, sampling)
    again = []
    backend.draw([(PROBLEMS[1], 2)], sampling, on_batch=again.extend)
    assert again[0].completion == drawn[5].completion
