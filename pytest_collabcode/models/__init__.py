"""Checkpoints into memory and back; torch from here up."""
