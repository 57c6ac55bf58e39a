"""The default engine: a model of transformers as a `Backend`, run by our own decoders where a family has one.

Each prompt is processed once, whatever the number of its samples; while a batch runs, rows that are finished leave
and the next prompts take their places, so that nothing waits for the longest completion. A row's text depends on its
own prompt and its own random stream; in float32 batch size and order change it only where two tokens lie closer than
rounding. Models of other families go through transformers' `generate`; `engine` says which it was.
Not covered: several devices; vLLM and HTTP endpoints, which are back ends of their own.
Sources: transformers' `generate` as the oracle; Yu et al. 2022 (Orca) for replacing finished rows.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from pytest_collabcode.drawing import Ledger, OnBatch, Request, draw_all
from pytest_collabcode.errors import MeasurementError
from pytest_collabcode.generation import fallback, positions, scoring, targets
from pytest_collabcode.generation.decoders import own_decoder
from pytest_collabcode.generation.fallback import GenerateRun
from pytest_collabcode.generation.forward import Forward, is_out_of_memory
from pytest_collabcode.generation.running import Row, Run
from pytest_collabcode.generation.slots import Slots
from pytest_collabcode.generation.stopping import Stopper
from pytest_collabcode.models.load import LoadedModel
from pytest_collabcode.progress import Report
from pytest_collabcode.records import Checkpoint, Generation, Problem, Sampling, TextScore, TokenScores


class TorchBackend:
    """A loaded model behind the `Backend` protocol.

    Args:
        loaded: model, tokenizer, manifest and device, of models/load.
        batch_size: rows that run together; None takes what 1.5 GiB of cache holds, at most 128, or on a GPU what 60 %
            of its free memory holds, at most 512.
        own_decoders: run the families that have one by our own decoder, not by transformers' `generate`.
    Attributes:
        engine: what runs the model: "gpt2", "llama", "t5" (our decoders) or "transformers" (its `generate`).
        n_truncated: prompts whose left end was cut off to fit the context, so far.
        batch_size: as given; halved when memory ran out.
        n_rows: most rows that ran together in the last request.
        n_halved: how often memory ran out, so far.
        tokens_at_once: of texts that are scored in one pass.
    Example:
        >>> from pathlib import Path
        >>> from pytest_collabcode.models.architectures import build
        >>> from pytest_collabcode.models.tokenizer import train_tokenizer
        >>> from pytest_collabcode.training.recipes import recipe
        >>> model, tokenizer = build(recipe("llama-smoke"), 1), train_tokenizer(["x = 1\\n"], vocabulary_size=257)
        >>> tiny = Checkpoint(name="tiny", path=Path(), weights_digest="w", tokenizer_digest="t", n_parameters=1)
        >>> loaded = LoadedModel(model=model, tokenizer=tokenizer, checkpoint=tiny, device="cpu")
        >>> problems = [Problem(task_id="t/0", prompt="x"), Problem(task_id="t/1", prompt="x = 1")]
        >>> drawn = TorchBackend(loaded).generate(problems, Sampling(temperature=0.8, max_new_tokens=4, n_samples=2))
        >>> [(generation.task_id, generation.sample_index) for generation in drawn]
        [('t/0', 0), ('t/0', 1), ('t/1', 0), ('t/1', 1)]
    """

    def __init__(self, loaded: LoadedModel, *, batch_size: int | None = None, own_decoders: bool = True) -> None:
        self.checkpoint: Checkpoint = loaded.checkpoint
        self.batch_size = batch_size
        self.n_truncated = self.n_rows = self.n_halved = 0
        self._forward = Forward(loaded.model, loaded.tokenizer, loaded.device)
        self.tokens_at_once: int = positions.tokens_at_once(self._forward)
        self._decoder = own_decoder(loaded.model) if own_decoders else None
        self._kept: list[Slots] = []  # of the last draw, on a GPU
        self._writes = self._forward.start is not None  # what an encoder has read, in its own words
        self.engine: str = self._decoder.name if self._decoder else fallback.NAME

    def generate(self, problems: Sequence[Problem], sampling: Sampling) -> list[Generation]:
        """Draw n_samples completions of each prompt, ordered by problem, then sample_index.

        Args:
            problems: prompts in any order; the checkpoint's conventions are applied to them.
            sampling: how to draw; its stop strings are joined by the checkpoint's own.
        Raises:
            MeasurementError: memory does not even suffice for one row, or the prompt leaves no room to generate.
        """
        return draw_all(self.draw, problems, sampling)

    def draw(
        self, requests: Sequence[Request], sampling: Sampling, *, on_batch: OnBatch, progress: Report | None = None
    ) -> None:
        """Draw just these (problem, sample_index) pairs, as `drawing.Draw` says."""
        rows = self._rows(requests, room=sampling.max_new_tokens)
        stop = (*sampling.stop, *self.checkpoint.conventions.stop)
        forward, decoder = self._forward, self._decoder
        stopper = Stopper(forward.tokenizer, stop, forward.eos_ids, continues=not self._writes)
        ledger = Ledger(len(rows), progress, on_batch)
        run = (
            Run(decoder, stopper, sampling, ledger.finish, prefill_tokens=forward.prefill_tokens, kept=self._kept)
            if decoder
            else GenerateRun(forward, stopper, sampling, ledger.finish)
        )
        while pending := [row for row in rows if not row.is_done]:
            if not self._fits(run, pending):
                self._halve(min(run.n_rows, len(pending)))

    def log_likelihood(self, texts: Sequence[str], *, max_tokens: int) -> list[TextScore]:
        """Score the first max_tokens tokens of each text; the first token of a text has no prediction.

        An encoder-decoder scores them as its decoder writes them after an empty prompt, the first one too.

        Args:
            texts: may be empty strings; those score nothing.
            max_tokens: window, cut further where the model's context is shorter.
        """
        score = targets.score_texts if self._writes else scoring.score_texts
        return score(self._forward, texts, max_tokens=max_tokens)

    def token_scores(self, pairs: Sequence[tuple[str, str]], sampling: Sampling) -> list[TokenScores]:
        """Score continuations in one forward pass each, the prompts asked exactly as `generate` asks them.

        An encoder-decoder has the prompt in its encoder and writes the continuation.

        Args:
            pairs: prompt and continuation; line breaks that the checkpoint's conventions take from the end of a
                prompt are put before its continuation.
            sampling: the scheme; of each continuation max_new_tokens tokens are scored. Stop strings are not read.
        """
        conventions, rows = self.checkpoint.conventions, []
        for prompt, continuation in pairs:
            asked = self._forward.prompt(prompt, conventions)
            taken = prompt[len(asked) - len(conventions.prefix) :]
            rows.append((asked, taken + continuation))
        score = targets.score_continuations if self._writes else scoring.score_continuations
        return score(self._forward, rows, sampling)

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return the mean last hidden state of each text, shape (len(texts), d), rows of unit length.

        Of an encoder-decoder it is the encoder's.
        """
        embed = targets.embed_texts if self._writes else scoring.embed_texts
        return embed(self._forward, texts)

    def _rows(self, requests: Sequence[Request], *, room: int) -> list[Row]:
        encoded: dict[str, list[int]] = {}
        for problem, _ in requests:
            prompt = self._forward.prompt(problem.prompt, self.checkpoint.conventions)
            if problem.prompt not in encoded:
                ids, cut = self._forward.encode_prompt(prompt, room=room)
                self.n_truncated += cut
                encoded[problem.prompt] = ids
        return [Row(problem, index, encoded[problem.prompt]) for problem, index in requests]

    def _fits(self, run: Run | GenerateRun, rows: Sequence[Row]) -> bool:
        """Run the rows; return whether memory sufficed."""
        try:
            run.run(rows, self.batch_size)
            self.n_rows = run.n_rows
        except (torch.OutOfMemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            return False
        return True

    def _halve(self, rows: int) -> None:
        if rows <= 1:
            raise MeasurementError(
                f"device={self._forward.device!r}: memory does not suffice for one row of {self.checkpoint.name}; "
                "free some, or lower max_new_tokens"
            )
        self.batch_size = rows // 2
        self.n_halved += 1
        if self._forward.device.startswith("cuda"):
            torch.cuda.empty_cache()
