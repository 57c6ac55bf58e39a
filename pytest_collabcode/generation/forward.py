"""A transformers model with its tokenizer: prompts to tokens as the model wants them, tokens to logits.

Not covered: generating (decoders/ and running.py, or fallback.py), whole texts (scoring.py, targets.py).
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import torch

from pytest_collabcode.errors import MeasurementError
from pytest_collabcode.generation.decoders.t5 import start_token
from pytest_collabcode.records import PromptConventions

CPU_PREFILL_TOKENS = 1024  # activations then stay in the cache of a core (measured: 360 against 264 tokens/s)
GPU_PREFILL_TOKENS = 16384
OUT_OF_MEMORY = "can't allocate memory", "out of memory", "CUBLAS_STATUS_ALLOC_FAILED"


class Forward:
    """A model, its tokenizer and its device, with the arguments its forward pass takes.

    Args:
        model: transformers.PreTrainedModel, already on the device.
        tokenizer: of transformers, of this model.
        device: "cpu", "cuda", "cuda:1".
    Example:
        >>> from pytest_collabcode.models.architectures import build
        >>> from pytest_collabcode.models.tokenizer import train_tokenizer
        >>> from pytest_collabcode.training.recipes import recipe
        >>> tokenizer = train_tokenizer(["x = 1\\n"], vocabulary_size=257)
        >>> forward = Forward(build(recipe("llama-smoke"), 1), tokenizer, "cpu")
        >>> forward.prompt("def f():\\n", PromptConventions(prefix="<|endoftext|>"))
        '<|endoftext|>def f():'
        >>> ids, was_cut = forward.encode_prompt("x" * 2000, room=24)
        >>> forward.context, len(ids), was_cut
        (1024, 1000, True)
    """

    def __init__(self, model: Any, tokenizer: Any, device: str) -> None:
        self.model, self.tokenizer, self.device = model.eval(), tokenizer, device
        self.context = _context(model.config)
        self.start = start_token(model) if model.config.is_encoder_decoder else None  # of what a decoder writes
        self.eos_ids = _eos_ids(model, tokenizer)
        self.prefill_tokens = CPU_PREFILL_TOKENS if device == "cpu" else GPU_PREFILL_TOKENS
        accepted = inspect.signature(model.forward).parameters
        self._has_positions = "position_ids" in accepted
        self._keeps = "logits_to_keep" in accepted

    def prompt(self, prompt: str, conventions: PromptConventions) -> str:
        """Return the prompt as this checkpoint wants to be asked."""
        text = prompt.rstrip("\n") if conventions.strip_trailing_newline else prompt
        return conventions.prefix + text

    def encode(self, text: str) -> list[int]:
        """Return the token ids of a text, with what the tokenizer puts in front and without what it appends."""
        ids: list[int] = self.tokenizer(text, verbose=False).input_ids
        return ids[:-1] if ids and ids[-1] in self.eos_ids and not self._ends_with_eos(text) else ids

    def encode_source(self, text: str) -> list[int]:
        """Return the token ids of a text as an encoder was trained to read it, with all that the tokenizer adds."""
        return list(self.tokenizer(text, verbose=False).input_ids) or sorted(self.eos_ids)[:1]

    def encode_prompt(self, prompt: str, *, room: int) -> tuple[list[int], bool]:
        """Return at most context - room tokens of a prompt, its right end, and whether something was cut off.

        Raises:
            MeasurementError: there is no room for a single token.
        """
        if self.start is not None:  # the completion has a context of its own
            ids = self.encode_source(prompt)
            keep = self.context or len(ids)
            return ids[-keep:], len(ids) > keep
        ids = self.encode(prompt) or sorted(self.eos_ids)[:1]  # an empty prompt begins as a document does
        if self.context is None:
            return ids, False
        if room >= self.context or not ids:
            raise MeasurementError(
                f"max_new_tokens={room!r}: the model's context holds {self.context} tokens, which leaves no prompt; "
                "lower max_new_tokens in the profile"
            )
        keep = self.context - room
        return ids[-keep:], len(ids) > keep

    def __call__(self, ids: torch.Tensor, mask: torch.Tensor, *, last: int = 0) -> torch.Tensor:
        """Return a decoder's logits, (B, T, V), of padded token ids (B, T) with their mask (B, T).

        Args:
            ids: int64.
            mask: 1 where there is a token.
            last: only the logits of that many last places are wanted: (B, last, V); 0 wants all.
        """
        output = self.model(
            input_ids=ids,
            attention_mask=mask,
            use_cache=False,
            **self.positions(mask),
            **({"logits_to_keep": last} if self._keeps and last else {}),
        )
        logits: torch.Tensor = output.logits
        return logits[:, -last:]  # -0 keeps all

    def positions(self, mask: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return the position_ids argument for a mask (B, T), if the model takes one."""
        return {"position_ids": (mask.cumsum(-1) - 1).clamp(min=0)} if self._has_positions else {}

    def pad(self, rows: Sequence[Sequence[int]], *, left: bool) -> tuple[torch.Tensor, torch.Tensor]:
        """Return token ids and mask, both int64 (B, T), padded with a token that the mask hides."""
        width = max(map(len, rows))
        ids = torch.zeros(len(rows), width, dtype=torch.int64)
        mask = torch.zeros(len(rows), width, dtype=torch.int64)
        for number, row in enumerate(rows):
            place = slice(width - len(row), width) if left else slice(0, len(row))
            ids[number, place] = torch.tensor(row)
            mask[number, place] = 1
        return ids.to(self.device), mask.to(self.device)

    def _ends_with_eos(self, text: str) -> bool:
        return any(text.endswith(self.tokenizer.decode([i])) for i in self.eos_ids)


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error of torch says that memory ran out, on a GPU or on the CPU.

    Example:
        >>> is_out_of_memory(RuntimeError("DefaultCPUAllocator: can't allocate memory"))
        True
        >>> is_out_of_memory(RuntimeError("shape mismatch"))
        False
    """
    text = str(error)
    return isinstance(error, torch.OutOfMemoryError) or any(sign in text for sign in OUT_OF_MEMORY)


def _context(config: Any) -> int | None:
    text = config.get_text_config()
    length = getattr(text, "max_position_embeddings", None)
    return int(length) if length else None


def _eos_ids(model: Any, tokenizer: Any) -> frozenset[int]:
    found: set[int] = set()
    for source in (getattr(model, "generation_config", None), model.config, tokenizer):
        ids = getattr(source, "eos_token_id", None)
        found.update(ids if isinstance(ids, list | tuple) else [] if ids is None else [ids])
    return frozenset(found)
