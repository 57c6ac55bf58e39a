"""Whole texts through an encoder-decoder: what it says of texts it writes, and what its encoder makes of texts.

A text alone is scored as the decoder writes it after an empty prompt; a continuation as it writes it with the prompt
in the encoder. Unlike under a decoder alone, the first token too has a prediction: it follows the start token.
Not covered: decoders without an encoder (scoring.py).
Source: the conventions of transformers' labels for encoder-decoders.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from pytest_collabcode.generation import positions
from pytest_collabcode.generation.forward import Forward
from pytest_collabcode.generation.positions import chunks, score_end, tokens_at_once
from pytest_collabcode.generation.scoring import COLUMNS, EMBED_TOKENS, unit_means
from pytest_collabcode.records import Sampling, TextScore, TokenScores


@torch.inference_mode()
def score_texts(forward: Forward, texts: Sequence[str], *, max_tokens: int) -> list[TextScore]:
    """Score the first max_tokens tokens of each text, as the decoder writes it after an empty prompt.

    Args:
        forward: model, tokenizer and device.
        texts: any strings; one without tokens scores nothing.
        max_tokens: window, cut further where the model's context is shorter.
    Returns:
        One TextScore a text, in order; nats, float32 logits summed in float64.
    Example:
        >>> from transformers import T5Config, T5ForConditionalGeneration
        >>> from pytest_collabcode.models.tokenizer import train_tokenizer
        >>> shape = {"num_layers": 1, "d_model": 8, "d_kv": 4, "d_ff": 16, "num_heads": 2, "vocab_size": 257}
        >>> model = T5ForConditionalGeneration(T5Config(**shape, decoder_start_token_id=0, eos_token_id=0))
        >>> forward = Forward(model, train_tokenizer(["x = 1\\n"], vocabulary_size=257), "cpu")
        >>> a, b = score_texts(forward, ["x = 1\\n", ""], max_tokens=4)
        >>> (a.n_tokens, a.n_bytes, a.log_likelihood < 0), (b.n_tokens, b.log_likelihood)
        ((4, 4, True), (0, 0.0))
    """
    window = min(max_tokens, forward.context or max_tokens)
    tokens = [positions.continuation(forward, "", text) for text in texts]
    rows = [ids[:window] for ids, _ in tokens]
    scores = [TextScore(log_likelihood=0.0, n_tokens=0, n_bytes=0)] * len(texts)
    for chunk in chunks(rows, tokens_at_once(forward), at_least=1):
        own = [rows[i] for i in chunk]
        logits = _written(forward, [forward.encode_source("")] * len(own), own)
        for i, ids, own_logits in zip(chunk, own, logits, strict=True):
            log_p = own_logits[: len(ids)].float().log_softmax(-1)
            gold = log_p.gather(1, torch.tensor(ids, device=log_p.device)[:, None])
            starts = [*tokens[i][1], len(texts[i])]
            scores[i] = TextScore(
                log_likelihood=float(gold.double().sum()),
                n_tokens=len(ids),
                n_bytes=len(texts[i][: starts[len(ids)]].encode()),
                token_ids=tuple(ids),
            )
    return scores


@torch.inference_mode()
def score_continuations(forward: Forward, pairs: Sequence[tuple[str, str]], sampling: Sampling) -> list[TokenScores]:
    """Score the first max_new_tokens tokens of each continuation, teacher-forced, its prompt in the encoder.

    Args:
        forward: model, tokenizer and device.
        pairs: prompt as the model is asked, and the continuation of it.
        sampling: the scheme whose probabilities are wanted; its penalty sees what the decoder wrote.
    Returns:
        One TokenScores a pair, in order.
    Example:
        >>> from transformers import T5Config, T5ForConditionalGeneration
        >>> from pytest_collabcode.models.tokenizer import train_tokenizer
        >>> shape = {"num_layers": 1, "d_model": 8, "d_kv": 4, "d_ff": 16, "num_heads": 2, "vocab_size": 257}
        >>> model = T5ForConditionalGeneration(T5Config(**shape, decoder_start_token_id=0, eos_token_id=0))
        >>> forward = Forward(model, train_tokenizer(["x = 1\\n"], vocabulary_size=257), "cpu")
        >>> [scores] = score_continuations(forward, [("x =", " 1\\n")], Sampling(max_new_tokens=2))
        >>> scores.starts, [log_p < 0 for log_p in scores.log_probs]
        ((0, 1), [True, True])
    """
    room = sampling.max_new_tokens
    prompts = [forward.encode_prompt(prompt, room=room)[0] for prompt, _ in pairs]
    tokens = [positions.continuation(forward, "", text) for _, text in pairs]
    rows = [ids[:room] for ids, _ in tokens]
    scores = [TokenScores(starts=(), log_probs=(), scheme_log_probs=(), means=(), deviations=())] * len(pairs)
    sizes = [[*prompt, *ids] if ids else [] for prompt, ids in zip(prompts, rows, strict=True)]
    for chunk in chunks(sizes, tokens_at_once(forward), at_least=1):
        logits = _written(forward, [prompts[i] for i in chunk], [rows[i] for i in chunk])
        for i, own_logits in zip(chunk, logits, strict=True):
            ids = torch.tensor([forward.start, *rows[i]], device=own_logits.device)
            columns = score_end(ids, own_logits[: len(rows[i])], sampling)
            scores[i] = TokenScores(
                starts=tuple(tokens[i][1][: len(rows[i])]),
                **dict(zip(COLUMNS[1:], columns, strict=True)),
            )
    return scores


@torch.inference_mode()
def embed_texts(forward: Forward, texts: Sequence[str]) -> NDArray[np.float32]:
    """Return the mean of the encoder's last states over the first 256 tokens of each text.

    Returns:
        Float32, shape (len(texts), d), rows of unit length.
    Example:
        >>> from transformers import T5Config, T5ForConditionalGeneration
        >>> from pytest_collabcode.models.tokenizer import train_tokenizer
        >>> shape = {"num_layers": 1, "d_model": 8, "d_kv": 4, "d_ff": 16, "num_heads": 2, "vocab_size": 257}
        >>> model = T5ForConditionalGeneration(T5Config(**shape, decoder_start_token_id=0, eos_token_id=0))
        >>> forward = Forward(model, train_tokenizer(["x = 1\\n"], vocabulary_size=257), "cpu")
        >>> found = embed_texts(forward, ["x = 1", "x = 1"])
        >>> found.shape, (found @ found[0]).round(3).tolist()
        ((2, 8), [1.0, 1.0])
    """
    window = min(EMBED_TOKENS, forward.context or EMBED_TOKENS)
    rows = [forward.encode_source(text)[:window] for text in texts]
    found = np.zeros((len(texts), forward.model.get_input_embeddings().weight.shape[1]), dtype=np.float32)
    for chunk in chunks(rows, forward.prefill_tokens, at_least=1):
        ids, mask = forward.pad([rows[i] for i in chunk], left=False)
        states = forward.model.get_encoder()(input_ids=ids, attention_mask=mask).last_hidden_state
        found[chunk] = unit_means(states, mask)
    return found


def _written(forward: Forward, prompts: Sequence[Sequence[int]], rows: Sequence[Sequence[int]]) -> torch.Tensor:
    """Return the logits (B, T, V) of rows that the decoder writes, each place before its token is written."""
    sources, source_mask = forward.pad(prompts, left=False)
    ids, mask = forward.pad([[forward.start or 0, *row[:-1]] for row in rows], left=False)
    output = forward.model(
        input_ids=sources,
        attention_mask=source_mask,
        decoder_input_ids=ids,
        decoder_attention_mask=mask,
        use_cache=False,
    )
    logits: torch.Tensor = output.logits
    return logits
