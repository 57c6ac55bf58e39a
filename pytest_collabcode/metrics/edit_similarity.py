"""Edit similarity: the Levenshtein ratio of characters, as the field's code-completion scores use it.

The ratio counts a replaced character as one deletion and one insertion, as python-Levenshtein's and rapidfuzz's
`ratio` do; difflib's ratio is another number.
Not covered: token-level similarity.
Sources: CodeXGLUE line completion (fuzzywuzzy over python-Levenshtein); Hyyrö 2004 for the bit-parallel form.
"""

from __future__ import annotations

from collections.abc import Sequence

from pytest_collabcode.errors import EmptyMeasurementError
from pytest_collabcode.records import Item, Measurement, Signature


def levenshtein_ratio(first: str, second: str) -> float:
    """Return twice the longest common subsequence over the sum of lengths, in [0, 1]; 1.0 for two empty texts.

    Example:
        >>> round(levenshtein_ratio("Hello world!", "Holly grail!"), 6)
        0.583333

    Source: python-Levenshtein `ratio`; Hyyrö 2004: one row of the table is the bits of one integer.
    """
    if not first and not second:
        return 1.0
    places: dict[str, int] = {}
    for i, character in enumerate(first):
        places[character] = places.get(character, 0) | 1 << i
    full = (1 << len(first)) - 1
    row = full  # a bit is 0 where the common subsequence grows
    for character in second:
        matched = row & places.get(character, 0)
        row = ((row + matched) | (row - matched)) & full
    common = len(first) - row.bit_count()
    return 2 * common / (len(first) + len(second))


def edit_similarity(
    keys: Sequence[str],
    predictions: Sequence[str],
    references: Sequence[str],
    *,
    subject: str,
    signature: Signature = (),
) -> Measurement:
    """Return the mean Levenshtein ratio of predictions and references, both stripped.

    Args:
        keys: of the problems.
        predictions: one text per problem.
        references: the true texts.
        subject: name of the model.
        signature: how the predictions were got.
    Returns:
        Measurement "edit_similarity", a ratio in [0, 1] (the field's papers print it times 100), one item per
        problem.
    Raises:
        EmptyMeasurementError: there are no problems.
        ValueError: the sequences differ in length.
    Example:
        >>> edit_similarity(["a", "b"], ["return", "x"], ["return", "y"], subject="s").value
        0.5

    """
    if not keys:
        raise EmptyMeasurementError("edit_similarity: there are no problems")
    items = tuple(
        Item(key=key, value=levenshtein_ratio(prediction.strip(), reference.strip()))
        for key, prediction, reference in zip(keys, predictions, references, strict=True)
    )
    return Measurement(
        name="edit_similarity",
        subject=subject,
        value=sum(item.value for item in items) / len(items),
        items=items,
        signature=signature,
    )
