"""The nouns of the house: frozen records that every room passes to the next.

Not here: behaviour. A record knows how to name itself and nothing else.
"""

from pytest_collabcode.records.code import (
    Canary,
    Corpus,
    Document,
    Function,
    Organization,
    Plant,
    Problem,
)
from pytest_collabcode.records.models import (
    Backend,
    Checkpoint,
    Execution,
    Generation,
    Outcome,
    PromptConventions,
    Recipe,
    Sampling,
    TextScore,
    TokenScores,
)
from pytest_collabcode.records.verdicts import (
    Clone,
    Fragment,
    Item,
    Measurement,
    Ruling,
    Signature,
    Threshold,
    Verdict,
    bound_text,
    confidence_text,
    format_value,
    signature_text,
    value_text,
)

__all__ = [
    "Backend",
    "Canary",
    "Checkpoint",
    "Clone",
    "Corpus",
    "Document",
    "Execution",
    "Fragment",
    "Function",
    "Generation",
    "Item",
    "Measurement",
    "Organization",
    "Outcome",
    "Plant",
    "Problem",
    "PromptConventions",
    "Recipe",
    "Ruling",
    "Sampling",
    "Signature",
    "TextScore",
    "Threshold",
    "TokenScores",
    "Verdict",
    "bound_text",
    "confidence_text",
    "format_value",
    "signature_text",
    "value_text",
]
