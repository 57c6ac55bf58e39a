"""Exact match: outputs that are the reference, white space around them aside.

Not covered: equality after formatting or renaming.
Source: CodeT5's generation script compares stripped texts.
"""

from __future__ import annotations

from collections.abc import Sequence

from pytest_collabcode.errors import EmptyMeasurementError
from pytest_collabcode.records import Item, Measurement, Signature


def exact_match(
    keys: Sequence[str],
    predictions: Sequence[str],
    references: Sequence[str],
    *,
    subject: str,
    signature: Signature = (),
) -> Measurement:
    """Count predictions equal to their reference after str.strip().

    Args:
        keys: of the problems.
        predictions: one text per problem.
        references: the true texts.
        subject: name of the model.
        signature: how the predictions were got.
    Returns:
        Measurement "exact_match", a ratio with exact counts and one item per problem.
    Raises:
        EmptyMeasurementError: there are no problems.
        ValueError: the sequences differ in length.
    Example:
        >>> m = exact_match(["a", "b"], [" return 1", "return 2"], ["return 1\\n", "return 3"], subject="s")
        >>> m.count, m.n
        (1, 2)

    """
    if not keys:
        raise EmptyMeasurementError("exact_match: there are no problems")
    items = tuple(
        Item(key=key, value=float(prediction.strip() == reference.strip()))
        for key, prediction, reference in zip(keys, predictions, references, strict=True)
    )
    count = int(sum(item.value for item in items))
    return Measurement(
        name="exact_match",
        subject=subject,
        value=count / len(items),
        count=count,
        n=len(items),
        items=items,
        signature=signature,
    )
