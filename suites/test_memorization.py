"""Whose training code comes back?"""

import pytest


@pytest.mark.measures("memorization_ratio", "cross_organization_clone_ratio", "distinct_clones", "clone_lines")
def test_natural_code_of(organization, memorization, gate):
    gate(*(m for m in memorization if m.prompt_organization == organization and m.stratum != "planted"))


@pytest.mark.measures("memorization_ratio", "memorization_lift", of="regime")
def test_planted_code_of(organization, memorization, gate):
    gate(*(m for m in memorization if m.prompt_organization == organization and m.stratum == "planted"))
