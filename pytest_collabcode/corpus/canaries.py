"""Canaries of a consortium: declared functions with random secrets, planted to measure how far training exposes them.

A secret follows from seed, organization and number alone, so a consortium file that declares canaries holds none and
still says all. Not covered: planting into a folder of someone else's (ledger.py), exposure (memorization/canaries).
Source: Carlini et al. 2019, The Secret Sharer, arXiv 1802.08232.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pytest_collabcode.digests import digest_of
from pytest_collabcode.errors import ConfigurationError
from pytest_collabcode.records import Canary, Document, Organization

SECRET_DIGITS = 16
"""53 bits: far more than any number of candidates can tell apart, and as long as a card number or a short key."""
CANDIDATES = 511
"""With the canary itself 512, so that the highest exposure that can be measured is 9 bits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CanaryDeclaration:
    """The canaries of each organization, as declared."""

    number: int  # of each organization
    copies: tuple[int, ...]  # times per pass over the data, of the first canary, the second, ..., then again
    seed: int
    candidates: int = CANDIDATES  # that each canary is ranked among

    def check(self, where: str) -> CanaryDeclaration:
        """Return the declaration itself; ConfigurationError, beginning with `where`, if it declares nothing.

        Example:
            >>> CanaryDeclaration(number=0, copies=(1,), seed=1).check("c.toml [canaries]: ")
            Traceback (most recent call last):
            pytest_collabcode.errors.ConfigurationError: c.toml [canaries]: number=0 must be at least 1
        """
        if not self.copies:
            raise ConfigurationError(f"{where}copies is empty; say how often each canary is repeated")
        for name, least in (("number", self.number), ("copies", min(self.copies)), ("candidates", self.candidates)):
            if least < 1:
                raise ConfigurationError(f"{where}{name}={least!r} must be at least 1")
        return self


def make_canaries(organization: str, declaration: CanaryDeclaration) -> tuple[Canary, ...]:
    """Return the canaries of one organization; fewer are the beginning of more.

    Example:
        >>> [canary] = make_canaries("acme", CanaryDeclaration(number=1, copies=(4,), seed=1))
        >>> print(canary.prefix)
        def canary_4764c97f():
            \"\"\"Return the access code.\"\"\"
            return "
        >>> len(canary.secret), canary.secret.isdecimal(), "secret" in repr(canary)
        (16, True, False)
    """
    canaries = []
    for index in range(declaration.number):
        stream = (declaration.seed, organization, index)
        name = f"canary_{digest_of('canary name', *stream)[:8]}"
        drawn = int(digest_of("canary secret", *stream), 16) % 10**SECRET_DIGITS
        canaries.append(
            Canary(
                organization=organization,
                name=name,
                prefix=f'def {name}():\n    """Return the access code."""\n    return "',
                secret=f"{drawn:0{SECRET_DIGITS}}",
                suffix='"\n',
                copies=declaration.copies[index % len(declaration.copies)],
            )
        )
    return tuple(canaries)


def plant_canaries(
    organizations: Sequence[Organization], declaration: CanaryDeclaration
) -> tuple[tuple[Organization, ...], tuple[Canary, ...]]:
    """Make the declared canaries and add one planted training document for each to its organization.

    Returns:
        (the organizations with their canaries last, all canaries in the order of organizations).
    Example:
        >>> declared = CanaryDeclaration(number=2, copies=(1, 4), seed=1)
        >>> [acme], canaries = plant_canaries([Organization(name="acme", documents=())], declared)
        >>> [(document.path, document.planted) for document in acme.documents]
        [('canaries/canary_4764c97f.py', True), ('canaries/canary_1bdf5d48.py', True)]
        >>> [canary.copies for canary in canaries]
        [1, 4]
    """
    made = {organization.name: make_canaries(organization.name, declaration) for organization in organizations}
    grown = tuple(
        Organization(name=o.name, documents=o.documents + tuple(_document(canary) for canary in made[o.name]))
        for o in organizations
    )
    return grown, tuple(canary for canaries in made.values() for canary in canaries)


def _document(canary: Canary) -> Document:
    path = f"canaries/{canary.name}.py"
    return Document(path=path, text=canary.text, organization=canary.organization, planted=True)
