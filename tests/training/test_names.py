"""Names of regimes are checked without torch."""

import subprocess
import sys

import pytest

from pytest_collabcode.errors import ConfigurationError
from pytest_collabcode.training.names import parse_name
from pytest_collabcode.training.regimes import name_of, parse_regime, regime_of
from pytest_collabcode.training.strategies import STRATEGIES

NAMES = ("meta", "microsoft", "google")
VALID = ("local:meta", "centralized", *STRATEGIES, "incremental:google>meta>microsoft")


@pytest.mark.parametrize("text", VALID)
def test_a_name_survives_being_taken_apart(text: str) -> None:
    assert str(parse_name(text, NAMES)) == text
    regime = parse_regime(text, NAMES)
    assert regime.name == text
    assert regime_of(name_of(regime)) == regime


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("fedyogy", "did you mean 'fedyogi'?"),
        ("central", "did you mean 'centralized'?"),
        ("local:mta", "did you mean 'meta'?"),
        ("local", "one organization is expected"),
        ("local:meta>google", "one organization is expected"),
        ("incremental", "meta, microsoft, google is missing"),
        ("incremental:meta>google", "microsoft is missing"),
        ("incremental:meta>meta>google>microsoft", "meta stands more than once"),
        ("incremental:meta>gogle>microsoft", "did you mean 'google'?"),
        ("fedavg:meta", "takes nothing after a colon"),
        ("", "valid: local"),
    ],
)
def test_a_wrong_name_gets_a_sentence_with_the_right_one(text: str, hint: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        parse_name(text, NAMES)
    assert hint in str(raised.value)
    assert repr(text) in str(raised.value)


def test_one_organization_in_order_is_local() -> None:
    assert str(parse_name("incremental:meta", ("meta",))) == "local:meta"


def test_names_recipes_and_digests_need_no_torch_and_no_flower() -> None:
    code = (
        "import sys, pytest_collabcode.training.identity, pytest_collabcode.training.recipes;"
        "sys.exit(any(m in sys.modules for m in ('torch', 'transformers', 'flwr', 'numpy')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
