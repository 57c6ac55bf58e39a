"""Our own byte-level BPE, trained on the pooled training split and shared by all regimes.

Every text comes back exactly: bytes are the alphabet, nothing is normalized. Not covered: the tokenizers of foreign
checkpoints (load.py).
Source: the tokenizers library; GPT-2's pre-tokenization.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from pytest_collabcode.errors import CorpusError

END_OF_TEXT = "<|endoftext|>"
MIN_VOCABULARY_SIZE = 257  # all bytes and the separator
TOKENIZER_VERSION = 1  # raise when the same texts would give other tokens


def train_tokenizer(texts: Iterable[str], *, vocabulary_size: int) -> Any:
    """Return a fast tokenizer trained on the texts; the same texts in any order give the same one.

    `tokenizer.save_pretrained(directory)` puts it beside a checkpoint, where transformers finds it.

    Args:
        texts: of the training split of all organizations.
        vocabulary_size: tokens at most, >= 257; fewer where the texts hold fewer repeated pairs.
    Returns:
        PreTrainedTokenizerFast; <|endoftext|> has id 0 and is beginning, end and padding.
    Raises:
        CorpusError: there is no text.
        ValueError: vocabulary_size cannot hold all bytes.
    Example:
        >>> tokenizer = train_tokenizer(["def f(x):\\n    return x\\n"] * 3, vocabulary_size=300)
        >>> tokenizer.decode(tokenizer.encode("def f(y): return y"))
        'def f(y): return y'
        >>> tokenizer.eos_token_id
        0
    """
    if vocabulary_size < MIN_VOCABULARY_SIZE:
        raise ValueError(f"vocabulary_size={vocabulary_size}: all bytes need {MIN_VOCABULARY_SIZE}")
    pool = sorted(texts)
    if not any(pool):
        raise CorpusError("the training split holds no text to train a tokenizer on")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary_size,
        min_frequency=2,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(pool, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=END_OF_TEXT,
        eos_token=END_OF_TEXT,
        pad_token=END_OF_TEXT,
        clean_up_tokenization_spaces=False,
    )
