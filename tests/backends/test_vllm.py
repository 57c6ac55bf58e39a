"""vLLM behind the Backend protocol; what needs a GPU is skipped without one."""

import importlib.util

import pytest
import torch
from transformers import GPT2Config, LlamaConfig

from pytest_collabcode.backends import vllm
from pytest_collabcode.backends.vllm import VllmBackend, gpus_for, require_vllm
from pytest_collabcode.errors import ConfigurationError
from pytest_collabcode.generation.engine import TorchBackend
from pytest_collabcode.models import load as loading
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


@pytest.mark.parametrize(
    ("heads", "key_heads", "inner", "gpus", "used"),
    [
        (32, 8, 11008, 8, 8),
        (9, 3, 1536, 8, 3),
        (14, 2, 4864, 8, 2),  # 7 divides the heads, but not the inner layer
        (8, 2, 512, 8, 8),  # keys are repeated
        (12, 4, 768, 8, 4),  # 6 divides the heads, but neither it nor 4 the other
        (7, 7, 448, 4, 1),
        (12, 12, 3072, 0, 1),
    ],
)
def test_a_model_is_spread_over_as_many_gpus_as_divide_its_parts(heads, key_heads, inner, gpus, used):
    shape = {"num_attention_heads": heads, "num_key_value_heads": key_heads, "intermediate_size": inner}
    assert gpus_for(LlamaConfig(hidden_size=64 * heads, **shape), gpus) == used


def test_an_inner_layer_that_is_not_named_is_four_times_the_width():
    assert gpus_for(GPT2Config(n_head=12, n_embd=768), 8) == 6


@pytest.fixture(scope="module")
def backend(checkpoint):
    pytest.importorskip("vllm", reason="vllm is not installed")
    if not torch.cuda.is_available():
        pytest.skip("vLLM's wheels need a GPU")
    with pytest.MonkeyPatch.context() as patch:  # rounding to bfloat16 would decide between tokens of a random model
        patch.setattr(vllm, "native_dtype", lambda device: torch.float32)
        backend = VllmBackend(checkpoint)
    yield backend
    backend.close()


def test_greedy_text_and_likelihoods_are_those_of_the_default_engine(backend, checkpoint, monkeypatch):
    monkeypatch.setattr(loading, "native_dtype", lambda device: torch.float32)
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
