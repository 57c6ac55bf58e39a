"""From a regime's name to the regime.

Not covered: checking a name without torch, which is `names.parse_name`.
"""

from __future__ import annotations

from pytest_collabcode.training.centralized import Centralized, Local
from pytest_collabcode.training.federated import Federated
from pytest_collabcode.training.incremental import Incremental
from pytest_collabcode.training.job import Regime
from pytest_collabcode.training.names import CENTRALIZED, INCREMENTAL, LOCAL, RegimeName, parse_name


def parse_regime(text: str, organizations: tuple[str, ...]) -> Regime:
    """Return the regime of a name such as "fedavg" or "incremental:meta>google".

    Args:
        text: as the user wrote it.
        organizations: all of the corpus, in its order.
    Raises:
        ConfigurationError: the name is not valid; the nearest valid one is given.
    Example:
        >>> parse_regime("local:meta", ("meta", "google"))
        Local(organization='meta')
        >>> parse_regime("fedyogy", ("meta", "google"))
        Traceback (most recent call last):
        pytest_collabcode.errors.ConfigurationError: regime='fedyogy': unknown; did you mean 'fedyogi'? valid: \
local, centralized, incremental, fedavg, fedavgm, fedprox, fedadagrad, fedadam, fedyogi, fedmedian, fedtrimmedavg
    """
    return regime_of(parse_name(text, organizations))


def regime_of(name: RegimeName) -> Regime:
    """Return the regime of a name taken apart.

    Example:
        >>> regime_of(RegimeName("federated", ("meta", "google"), "fedavg"))
        Federated(organizations=('meta', 'google'), strategy='fedavg')
    """
    if name.kind == LOCAL:
        return Local(name.organizations[0])
    if name.kind == CENTRALIZED:
        return Centralized(name.organizations)
    if name.kind == INCREMENTAL:
        return Incremental(name.organizations)
    return Federated(name.organizations, name.strategy)


def name_of(regime: Regime) -> RegimeName:
    """Return a regime's name taken apart, the inverse of `regime_of`.

    Example:
        >>> name_of(Local("meta"))
        RegimeName(kind='local', organizations=('meta',), strategy='')
    """
    if isinstance(regime, Federated):
        return RegimeName("federated", regime.organizations, regime.strategy)
    kind = regime.name.partition(":")[0]
    return RegimeName(kind, regime.organizations)
