"""Model families that the engine runs itself, over the weights of a transformers model; one file each.

`own_decoder` picks by the exact class and config; for anything else there is transformers' own `generate`.
"""

from __future__ import annotations

from typing import Any

from pytest_collabcode.generation.decoders.decoder import Decoder
from pytest_collabcode.generation.decoders.gpt2 import Gpt2
from pytest_collabcode.generation.decoders.llama import Llama
from pytest_collabcode.generation.decoders.t5 import T5

FAMILIES = (Gpt2, Llama, T5)


def own_decoder(model: Any) -> Decoder | None:
    """Return a decoder over a model's weights, or None where only transformers knows how to run it.

    Example:
        >>> from pytest_collabcode.models.architectures import build
        >>> from pytest_collabcode.training.recipes import recipe
        >>> model = build(recipe("llama-smoke"), 1)
        >>> own_decoder(model).name
        'llama'
        >>> model.config.hidden_act = "relu"
        >>> own_decoder(model) is None
        True
    """
    return next((family(model) for family in FAMILIES if family.fits(model)), None)
