"""Pure functions from outcomes to measurements."""
