"""Whose training code comes back, and what found clones mean: ratios by organization, controls, and more than verbatim."""
