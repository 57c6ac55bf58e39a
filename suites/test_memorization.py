"""Whose training code comes back?"""

import pytest


@pytest.mark.measures(
    "memorization_ratio",
    "line_ratio",
    "memorization_over_heldout",
    "memorization_lift",
    "memorization_over_base",
    "cross_organization_clone_ratio",
    "near_clone_ratio",
    "copyleft_clone_ratio",
    "allowed_clones",
    "distinct_clones",
    "clone_lines",
    "licence_header_ratio",
)
def test_natural_code_of(organization, memorization, gate):
    gate(*(m for m in memorization if m.prompt_organization == organization and m.stratum != "planted"))


@pytest.mark.measures(
    "memorization_ratio",
    "line_ratio",
    "memorization_over_heldout",
    "memorization_lift",
    "memorization_over_base",
    "near_clone_ratio",
    of="regime",
)
def test_planted_code_of(organization, memorization, gate):
    gate(*(m for m in memorization if m.prompt_organization == organization and m.stratum == "planted"))


@pytest.mark.measures("near_verbatim_ratio.bleu75", "near_verbatim_ratio.edit90")
def test_near_verbatim_code_of(organization, near_verbatim, gate):
    gate(*(m for m in near_verbatim if m.prompt_organization == organization))


@pytest.mark.measures("discoverable")
def test_discoverable_code_of(organization, extraction, gate):
    gate(*(m for m in extraction(n=1000, p=0.5) if m.prompt_organization == organization))


@pytest.mark.measures("membership_auroc")
def test_membership(membership, gate):
    gate(*membership)


@pytest.mark.measures("canary_exposure", of="regime")
def test_canaries(canaries, gate):
    gate(*(m for m in canaries if not m.prompt_organization))


@pytest.mark.measures("canary_exposure", of="regime")
def test_canaries_of(organization, canaries, gate):
    gate(*(m for m in canaries if m.prompt_organization == organization))
