"""vLLM as a Backend: generation and likelihoods on all visible GPUs of a machine or cluster.

Prompts are tokenized and cut as by the default engine, and each (task, sample) has a seed of its own; the samples of
a prompt share its prefill through the prefix cache. vLLM's kernels round with the batch, so texts repeat from run to
run only as far as they do (VLLM_BATCH_INVARIANT=1 makes them).
Not covered: embeddings, and scores that need every token's logit (the default engine gives them; vLLM tells
log-probabilities, from which a repetition penalty cannot be computed). Never run here: it needs a GPU.
Sources: vLLM's API reference of LLM, SamplingParams and RequestOutput; Kwon et al. 2023.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig

from pytest_collabcode.backends.asking import asked, seed_of, stops
from pytest_collabcode.drawing import Ledger, OnBatch, Request, draw_all
from pytest_collabcode.errors import ConfigurationError, MeasurementError
from pytest_collabcode.models.load import load, load_tokenizer, native_dtype, offline
from pytest_collabcode.progress import Report
from pytest_collabcode.records import Checkpoint, Generation, Problem, Sampling, TextScore, TokenScores

ASKED_AT_ONCE = 4096  # requests whose answers come, and are stored, together: four times what a large GPU runs


def require_vllm() -> None:
    """Refuse `--collabcode-backend=vllm` where it cannot work.

    Raises:
        ConfigurationError: vllm is not installed.
    Example:
        >>> if importlib.util.find_spec("vllm") is None:
        ...     try:
        ...         require_vllm()
        ...     except ConfigurationError as error:
        ...         assert "pytest-collabcode[vllm]" in str(error)
    """
    if importlib.util.find_spec("vllm") is None:
        raise ConfigurationError(
            "--collabcode-backend='vllm': vllm is not installed; on Linux with a GPU: "
            "pip install 'pytest-collabcode[vllm]'"
        )


def gpus_for(config: Any, n_gpus: int) -> int:
    """Return over how many GPUs a model is spread: as many as there are and divide its heads and inner layers.

    Args:
        config: of transformers.
        n_gpus: that are visible.
    Example:
        >>> from transformers import GPT2Config, LlamaConfig
        >>> heads = {"num_attention_heads": 14, "num_key_value_heads": 2, "hidden_size": 896}
        >>> grouped = LlamaConfig(intermediate_size=4864, **heads)
        >>> gpus_for(GPT2Config(n_head=12), 8), gpus_for(grouped, 8), gpus_for(GPT2Config(n_head=12), 0)
        (6, 2, 1)
    """
    heads = config.num_attention_heads
    key_heads = (
        getattr(config, "num_key_value_heads", None) or heads
    )  # fewer than GPUs are repeated, if that comes out
    inner = getattr(config, "intermediate_size", None) or getattr(config, "n_inner", None) or 4 * config.hidden_size

    def divides(n: int) -> bool:
        return bool(heads % n == inner % n == 0 and (key_heads % n == 0 or n % key_heads == 0))

    return max(filter(divides, range(1, n_gpus + 1)), default=1)


class VllmBackend:
    """A checkpoint in vLLM.

    Args:
        checkpoint: of `read_checkpoint`; an adapter is merged first.
        batch_size: rows that run together; None leaves it to vLLM.
    Raises:
        ConfigurationError: vllm is not installed.
        MeasurementError: vLLM cannot hold the model.
    Example:
        >>> VllmBackend(checkpoint).generate(problems, Sampling(n_samples=20))  # doctest: +SKIP
    """

    def __init__(self, checkpoint: Checkpoint, *, batch_size: int | None = None) -> None:
        require_vllm()
        self.checkpoint = checkpoint
        os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")  # else it reports models and machines to its makers
        self._vllm: Any = importlib.import_module("vllm")
        self._tokenizer = load_tokenizer(checkpoint)
        with _folder(checkpoint) as folder:
            self._llm = self._open(folder, batch_size)
        self._context: int = self._llm.llm_engine.model_config.max_model_len

    def _open(self, folder: Path, batch_size: int | None) -> Any:
        with offline():
            config = AutoConfig.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
        device = "cuda" if torch.cuda.is_available() else "cpu"
        try:
            return self._vllm.LLM(
                model=str(folder),
                load_format="safetensors",
                trust_remote_code=False,
                dtype=str(native_dtype(device)).removeprefix("torch."),
                tensor_parallel_size=gpus_for(config, torch.cuda.device_count()),
                enable_prefix_caching=True,
                **({"max_num_seqs": batch_size} if batch_size else {}),
            )
        except Exception as error:  # its own kinds change from version to version
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            raise MeasurementError(f"{self.checkpoint.name}: vLLM cannot hold it ({reason})") from error

    def close(self) -> None:
        """End the engine, which holds nearly all memory of the GPUs for as long as it lives."""
        self._llm.llm_engine.engine_core.shutdown()

    def generate(self, problems: Sequence[Problem], sampling: Sampling) -> list[Generation]:
        """Draw n_samples completions of each prompt, ordered by problem, then sample_index."""
        return draw_all(self.draw, problems, sampling)

    def draw(
        self, requests: Sequence[Request], sampling: Sampling, *, on_batch: OnBatch, progress: Report | None = None
    ) -> None:
        """Draw just these (problem, sample_index) pairs, as `drawing.Draw` says.

        Raises:
            MeasurementError: max_new_tokens leaves no room for a prompt.
        """
        ledger = Ledger(len(requests), progress, on_batch)
        for start in range(0, len(requests), ASKED_AT_ONCE):
            some = requests[start : start + ASKED_AT_ONCE]
            prompts = [{"prompt_token_ids": self._prompt_ids(p.prompt, sampling.max_new_tokens)} for p, _ in some]
            parameters = [self._parameters(problem, index, sampling) for problem, index in some]
            began = time.perf_counter()
            outputs = self._ask(prompts, parameters)
            mean_s = (time.perf_counter() - began) / len(some)
            for (problem, index), output in zip(some, outputs, strict=True):
                ledger.finish(_generation(problem, index, output.outputs[0], mean_s))

    def log_likelihood(self, texts: Sequence[str], *, max_tokens: int) -> list[TextScore]:
        """Score the first max_tokens tokens of each text; the first of them has no prediction."""
        window = min(max_tokens, self._context - 1)  # vLLM always draws one token more
        rows = [self._encode(text)[:window] for text in texts]
        asked_rows = [number for number, row in enumerate(rows) if len(row) > 1]
        parameters = self._vllm.SamplingParams(temperature=0.0, max_tokens=1, prompt_logprobs=0, detokenize=False)
        outputs = self._ask([{"prompt_token_ids": rows[n]} for n in asked_rows], [parameters for _ in asked_rows])
        scores = [TextScore(log_likelihood=0.0, n_tokens=0, n_bytes=0)] * len(texts)
        for number, output in zip(asked_rows, outputs, strict=True):
            row = rows[number]
            told = zip(row[1:], output.prompt_logprobs[1:], strict=True)
            scores[number] = TextScore(
                log_likelihood=sum(at_place[token].logprob for token, at_place in told),
                n_tokens=len(row) - 1,
                n_bytes=self._scored_bytes(texts[number], len(row)),
                token_ids=tuple(row[1:]),
            )
        return scores

    def token_scores(self, pairs: Sequence[tuple[str, str]], sampling: Sampling) -> list[TokenScores]:
        """Refuse: see the module's first lines."""
        raise MeasurementError(f"{self.checkpoint.name}: vLLM tells no logits; the default engine scores tokens")

    def embed(self, texts: Sequence[str]) -> object:
        """Refuse: see the module's first lines."""
        raise MeasurementError(f"{self.checkpoint.name}: vLLM gives no embeddings here; the default engine does")

    def _ask(self, prompts: list[dict[str, list[int]]], parameters: list[Any]) -> list[Any]:
        outputs: list[Any] = self._llm.generate(prompts, parameters, use_tqdm=False) if prompts else []
        return outputs

    def _parameters(self, problem: Problem, index: int, sampling: Sampling) -> Any:
        greedy = sampling.temperature == 0
        return self._vllm.SamplingParams(
            temperature=sampling.temperature,
            top_p=1.0 if greedy else sampling.top_p,
            top_k=sampling.top_k if sampling.top_k and not greedy else -1,
            repetition_penalty=sampling.repetition_penalty,
            max_tokens=sampling.max_new_tokens,
            seed=seed_of(sampling.seed, problem.task_id, index),
            stop=list(stops(sampling, self.checkpoint.conventions)),
            skip_special_tokens=False,
            spaces_between_special_tokens=False,
        )

    def _prompt_ids(self, prompt: str, room: int) -> list[int]:
        """Return the right end of a prompt that leaves room for the completion."""
        if room >= self._context:
            raise MeasurementError(
                f"max_new_tokens={room!r}: the model's context holds {self._context} tokens, which leaves no prompt; "
                "lower max_new_tokens in the profile"
            )
        ids = self._encode(asked(prompt, self.checkpoint.conventions)) or [self._tokenizer.eos_token_id]
        return ids[-(self._context - room) :]

    def _encode(self, text: str) -> list[int]:
        """Return the token ids of a text, with what the tokenizer puts in front and without what it appends."""
        ids: list[int] = self._tokenizer(text, verbose=False).input_ids
        end = self._tokenizer.eos_token
        return ids[:-1] if ids and ids[-1] == self._tokenizer.eos_token_id and not text.endswith(end) else ids

    def _scored_bytes(self, text: str, n_tokens: int) -> int:
        if not getattr(self._tokenizer, "is_fast", False):
            return len(self._tokenizer.decode(self._encode(text)[1:n_tokens]).encode())
        offsets = self._tokenizer(text, return_offsets_mapping=True, verbose=False).offset_mapping
        return len(text[offsets[0][1] : offsets[n_tokens - 1][1]].encode())


@contextmanager
def _folder(checkpoint: Checkpoint) -> Iterator[Path]:
    """Yield a folder with the weights to load: the checkpoint's, or a merged copy that lives while it is read."""
    if checkpoint.adapter is None:
        yield checkpoint.path
        return
    with tempfile.TemporaryDirectory() as folder:
        merged = load(checkpoint)
        merged.model.save_pretrained(folder)
        merged.tokenizer.save_pretrained(folder)
        yield Path(folder)


def _generation(problem: Problem, index: int, completion: Any, duration_s: float) -> Generation:
    ended = "stop" if isinstance(completion.stop_reason, str) else "eos"
    return Generation(
        task_id=problem.task_id,
        sample_index=index,
        completion=completion.text,
        n_tokens=len(completion.token_ids),
        duration_s=duration_s,
        stop_reason="length" if completion.finish_reason == "length" else ended,
    )
