"""Verdicts out: terminal table, JSON, Markdown."""
