"""Documents in: sources, curation, de-duplication, split, functions and plants of a consortium."""
