"""Thresholds and verdicts: the only road to the exit code."""
