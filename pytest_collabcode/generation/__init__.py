"""Completions out of a model: engine, sampler, stop strings."""
