"""The demo gate: one test file per question, thresholds.toml beside them."""
