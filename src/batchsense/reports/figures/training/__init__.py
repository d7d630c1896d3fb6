"""Figures of what was measured in training."""
