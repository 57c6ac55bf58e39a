"""Two callables that do the same job, for timing: this engine, and transformers' own batched `generate`.

The job is to complete the given prompts, so an end-of-text token ends a row in both. No stop strings: transformers
looks for them with a table whose building would be timed.
Not covered: taking the time (throughput/clock).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from transformers import GenerationConfig

from pytest_collabcode.generation.engine import TorchBackend
from pytest_collabcode.generation.forward import Forward
from pytest_collabcode.models.load import LoadedModel
from pytest_collabcode.records import Backend, Problem, Sampling

REFERENCE = "transformers.generate"


def torch_steps(
    loaded: LoadedModel, problems: Sequence[Problem], sampling: Sampling
) -> tuple[Callable[[], int], Callable[[], int]]:
    """Return both callables, ours and the reference, over one model in memory and with equal rows.

    Each completes the problems when called, and returns how many tokens it drew.

    Raises:
        ValueError: there are stop strings.
    Example:
        >>> from pathlib import Path
        >>> from pytest_collabcode.models.architectures import build
        >>> from pytest_collabcode.models.tokenizer import train_tokenizer
        >>> from pytest_collabcode.records import Checkpoint
        >>> from pytest_collabcode.training.recipes import recipe
        >>> model, tokenizer = build(recipe("llama-smoke"), 1), train_tokenizer(["x = 1\\n"], vocabulary_size=257)
        >>> tiny = Checkpoint(name="tiny", path=Path(), weights_digest="w", tokenizer_digest="t", n_parameters=1)
        >>> loaded = LoadedModel(model=model, tokenizer=tokenizer, checkpoint=tiny, device="cpu")
        >>> ours, reference = torch_steps(loaded, [Problem(task_id="t/0", prompt="x")], Sampling(max_new_tokens=4))
        >>> ours() == reference()
        True
    """
    backend = TorchBackend(loaded, batch_size=len(problems) * sampling.n_samples)
    return _generation_step(backend, problems, sampling), _reference_step(loaded, problems, sampling)


def _generation_step(backend: Backend, problems: Sequence[Problem], sampling: Sampling) -> Callable[[], int]:
    """Return a callable that completes the problems and returns how many tokens it drew.

    Args:
        backend: usually a TorchBackend of a LoadedModel.
        problems: all prompts of one round.
        sampling: without stop strings.
    Raises:
        ValueError: there are stop strings.
    """
    _check(sampling)
    return lambda: sum(generation.n_tokens for generation in backend.generate(problems, sampling))


def _reference_step(loaded: LoadedModel, problems: Sequence[Problem], sampling: Sampling) -> Callable[[], int]:
    """Return a callable that completes the same prompts with transformers, all rows in one batch.

    Args:
        loaded: the same model and tokenizer as of the backend.
        problems: all prompts of one round.
        sampling: without stop strings; drawn with torch's global generator, which is restored afterwards.
    Raises:
        ValueError: there are stop strings.
    """
    _check(sampling)
    forward = Forward(loaded.model, loaded.tokenizer, loaded.device)
    prompts = [forward.prompt(problem.prompt, loaded.checkpoint.conventions) for problem in problems]
    rows = [forward.encode_prompt(p, room=sampling.max_new_tokens)[0] for p in prompts]
    ids, mask = forward.pad([row for row in rows for _ in range(sampling.n_samples)], left=forward.start is None)
    config = reference_config(sampling, sorted(forward.eos_ids))

    gpus = [ids.device] if ids.is_cuda else []  # or it warns, and keeps the state of all

    def step() -> int:
        with torch.random.fork_rng(gpus), torch.inference_mode():
            torch.manual_seed(sampling.seed)
            output = loaded.model.generate(input_ids=ids, attention_mask=mask, generation_config=config)
        return _n_drawn(output[:, 1 if forward.start is not None else ids.shape[1] :], forward.eos_ids)

    return step


def reference_config(sampling: Sampling, eos_ids: Sequence[int]) -> GenerationConfig:
    """Return transformers' own words for a Sampling.

    Example:
        >>> reference_config(Sampling(temperature=0.6, top_p=0.6), [2]).top_p
        0.6
    """
    drawn = {"temperature": sampling.temperature, "top_p": sampling.top_p, "top_k": sampling.top_k}
    return GenerationConfig(
        do_sample=sampling.temperature > 0,
        max_new_tokens=sampling.max_new_tokens,
        repetition_penalty=sampling.repetition_penalty,
        eos_token_id=list(eos_ids) or None,
        pad_token_id=eos_ids[0] if eos_ids else 0,
        **(drawn if sampling.temperature > 0 else {}),
    )


def _check(sampling: Sampling) -> None:
    if sampling.stop:
        raise ValueError(f"stop={sampling.stop!r}: the reference is timed without stop strings; leave them out")


def _n_drawn(new: torch.Tensor, eos_ids: frozenset[int]) -> int:
    """Count the tokens up to and including each row's first end-of-text."""
    ends = torch.isin(new, torch.tensor(sorted(eos_ids), dtype=new.dtype, device=new.device))  # (R, T)
    after = ends.cumsum(-1) - ends.long()  # end-of-text tokens before each place
    return int((after == 0).sum())
