"""When a completion ends, and its text: end-of-text ids, stop strings in the continuation, nothing cut in half.

Only the tail of a completion is decoded while it grows, and only after a token in which a stop string could end, so
a step costs the same at token 10 and at token 1000.
Not covered: regular expressions as stops, stops that begin in the prompt.
Sources: transformers' StopStringCriteria for the idea of asking the token first.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

BROKEN = "\ufffd"  # what a decoder puts for bytes that are no character (yet)
CONTEXT_TOKENS = 4  # of the prompt, decoded with the continuation so that a leading space is kept
MARGIN_TOKENS = 4  # a character may be spread over four tokens


class Stopper:
    """Decides when one completion is over and what its text is.

    Args:
        tokenizer: of transformers.
        stop: strings that end a completion; the text is cut before the first of them.
        eos_ids: token ids that end a completion.
        continues: the text goes on where the prompt ends; False for an encoder-decoder, whose text stands alone and
            whose special tokens are no part of it.
    Example:
        >>> class Letters:
        ...     def decode(self, ids, **_): return "".join(map(chr, ids))
        >>> stopper = Stopper(Letters(), ["\\n#"], [0])
        >>> [stopper.reason([ord(c) for c in text]) for text in ("a", "a\\n", "a\\n#", "a\\0")]
        ['', '', 'stop', 'eos']
        >>> stopper.text([], [ord(c) for c in "a\\n#"])
        'a'
    """

    def __init__(
        self, tokenizer: Any, stop: Sequence[str], eos_ids: Collection[int], *, continues: bool = True
    ) -> None:
        self._tokenizer, self._continues = tokenizer, continues
        self._stop = tuple(dict.fromkeys(s for s in stop if s))
        self._eos_ids = frozenset(eos_ids)
        self._tail = max((len(s.encode()) for s in self._stop), default=0) + MARGIN_TOKENS
        self._may_end: dict[int, bool] = {}

    def reason(self, new_ids: Sequence[int]) -> str:
        """Return why the completion is over after its newest token: "eos", "stop", or "" if it is not."""
        newest = new_ids[-1]
        if newest in self._eos_ids:
            return "eos"
        if self._stop and self._could_end_in(newest):
            tail = self._decode(new_ids[-self._tail :])
            if any(s in tail for s in self._stop):
                return "stop"
        return ""

    def text(self, prompt_ids: Sequence[int], new_ids: Sequence[int]) -> str:
        """Return the continuation, cut before the first stop string, without end-of-text and half characters."""
        ids = list(new_ids[:-1] if new_ids and new_ids[-1] in self._eos_ids else new_ids)
        context = list(prompt_ids[-CONTEXT_TOKENS:]) if self._continues else []
        head, whole = self._decode(context), self._decode(context + ids)
        text = whole[len(head) :] if whole.startswith(head) else self._decode(ids)
        ends = [place for place in (text.find(s) for s in self._stop) if place >= 0]
        return text[: min(ends)] if ends else text.rstrip(BROKEN)

    def _could_end_in(self, token: int) -> bool:
        known = self._may_end.get(token)
        if known is None:
            piece = self._decode([token])
            known = (
                not piece or BROKEN in piece or any(_ends_in(s, p) for s in self._stop for p in (piece, " " + piece))
            )
            self._may_end[token] = known
        return known

    def _decode(self, ids: Sequence[int]) -> str:
        text: str = self._tokenizer.decode(
            list(ids), skip_special_tokens=not self._continues, clean_up_tokenization_spaces=False
        )
        return text


def _ends_in(stop: str, piece: str) -> bool:
    """Whether some text that ends with this piece has its first whole `stop` end inside the piece."""
    return stop in piece or any(piece.startswith(stop[-n:]) for n in range(1, len(stop)))
