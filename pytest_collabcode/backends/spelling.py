"""Spelling: where the tokens that a server echoes stand in the text that it was sent.

Servers tell tokens as strings. Some begin with one that is not in the text (<s>), some lose the space before a word,
and a token that is a part of a character is shown as a replacement character, as "bytes:..." or as nothing.
Not covered: servers that tell tokens as numbers.
Source: answers of vLLM, SGLang and llama.cpp; OpenAI's "bytes:" notation.
"""

from __future__ import annotations

from collections.abc import Sequence

BROKEN = "\ufffd"
CHARACTERS_PER_PART = 8  # of a token that holds a part of a character, at most


def token_places(text: str, tokens: Sequence[str]) -> list[int]:
    """Return the character of the text at which each token begins.

    Args:
        text: as sent.
        tokens: that it was split into, in order, one that opens it (<s>) included.
    Returns:
        As many places as tokens, never decreasing. Parts of one character begin where it does; a run of parts is
        spread evenly over the characters between its whole neighbours.
    Raises:
        ValueError: the tokens do not spell the text.
    Example:
        >>> token_places("def é():", ["<s>", "def", " ", "\\ufffd", "\\ufffd", "():"])
        [0, 0, 3, 4, 4, 5]
    """
    places: list[int] = []
    here, parts = 0, 0  # how far the text is spelled, and the parts of characters since then
    for number, token in enumerate(tokens):
        if BROKEN in token or token.startswith("bytes:"):
            parts += 1
            continue
        if parts and token:
            begin = text.find(token, here + 1, here + CHARACTERS_PER_PART * parts + len(token))
            if begin < 0:
                raise ValueError(f"token {number} is not in the text where it should be")
            places += _spread(here, begin, parts)
            here, parts = begin, 0
        begin, end = _found(text, token, here, first=number == 0)
        places.append(begin)
        here = end
    if here < len(text) and not parts:
        raise ValueError("the text goes on after the last token")
    return places + _spread(here, len(text), parts)


def _found(text: str, token: str, here: int, *, first: bool) -> tuple[int, int]:
    """Return where a whole token begins and ends."""
    if text.startswith(token, here):
        return here, here + len(token)
    if text.startswith(" " + token, here):  # decoded by itself, a word may lose its space
        return here, here + 1 + len(token)
    if first:  # it opens the text and is not in it
        return here, here
    raise ValueError(f"the text has no {len(token)} characters of a token where they should be")


def _spread(begin: int, end: int, parts: int) -> list[int]:
    return [begin + (end - begin) * part // parts for part in range(parts)]
