"""The one training loop: ranks, an endless order, the step, checkpoints; all else builds on it."""
