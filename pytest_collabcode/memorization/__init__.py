"""Whose training code comes back: an index of line windows, clones found with it, and who they belong to."""
