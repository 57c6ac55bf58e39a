"""The names of regimes, read and checked without importing torch.

    local:meta · centralized · fedavg · fedyogi · ... · incremental:meta>microsoft>google

Not covered: training them (centralized.py, incremental.py, federated.py).
"""

from __future__ import annotations

from dataclasses import dataclass

from pytest_collabcode.errors import ConfigurationError, nearest
from pytest_collabcode.training.strategies import STRATEGIES

LOCAL, CENTRALIZED, INCREMENTAL, FEDERATED = "local", "centralized", "incremental", "federated"
KINDS = (LOCAL, CENTRALIZED, INCREMENTAL, *STRATEGIES)


@dataclass(frozen=True, slots=True)
class RegimeName:
    """A regime's name, taken apart."""

    kind: str  # LOCAL, CENTRALIZED, INCREMENTAL or FEDERATED
    organizations: tuple[str, ...]  # whose code is trained on; in the order of training where that matters
    strategy: str = ""  # of a federated regime

    def __str__(self) -> str:
        if self.kind == LOCAL:
            return f"{LOCAL}:{self.organizations[0]}"
        if self.kind == INCREMENTAL:
            return f"{INCREMENTAL}:{'>'.join(self.organizations)}"
        return self.strategy or CENTRALIZED


def parse_name(text: str, organizations: tuple[str, ...]) -> RegimeName:
    """Return a regime's name taken apart.

    Args:
        text: as the user wrote it.
        organizations: all of the corpus, in its order.
    Raises:
        ConfigurationError: unknown kind, strategy or organization, or an order that repeats or misses one; the
            nearest valid name is given.
    Example:
        >>> parse_name("incremental:meta>google", ("google", "meta")).organizations
        ('meta', 'google')
        >>> str(parse_name("fedavg", ("google", "meta")))
        'fedavg'
    """
    kind, colon, rest = text.strip().partition(":")
    if kind in STRATEGIES and not colon:
        return RegimeName(FEDERATED, organizations, kind)
    if kind == CENTRALIZED and not colon:
        return RegimeName(CENTRALIZED, organizations)
    if kind not in KINDS:
        raise ConfigurationError(f"regime={text!r}: unknown; {nearest(kind, KINDS)}")
    if kind not in (LOCAL, INCREMENTAL):
        raise ConfigurationError(f"regime={text!r}: {kind} takes nothing after a colon; write {kind}")
    order = tuple(name.strip() for name in rest.split(">") if name.strip())
    _check_order(text, kind, order, organizations)
    if len(order) == 1:  # one stage is what the organization trains alone
        return RegimeName(LOCAL, order)
    return RegimeName(INCREMENTAL, order)


def _check_order(text: str, kind: str, order: tuple[str, ...], organizations: tuple[str, ...]) -> None:
    for name in order:
        if name not in organizations:
            raise ConfigurationError(
                f"regime={text!r}: organization {name!r} is unknown; {nearest(name, organizations)}"
            )
    if kind == LOCAL and len(order) != 1:
        raise ConfigurationError(f"regime={text!r}: one organization is expected: {LOCAL}:{organizations[0]}")
    repeated = sorted({name for name in order if order.count(name) > 1})
    if repeated:
        raise ConfigurationError(f"regime={text!r}: {', '.join(repeated)} stands more than once in the order")
    missing = [name for name in organizations if name not in order]
    if kind == INCREMENTAL and missing:
        raise ConfigurationError(
            f"regime={text!r}: {', '.join(missing)} is missing in the order; "
            f"each organization once, such as {INCREMENTAL}:{'>'.join(organizations)}"
        )
