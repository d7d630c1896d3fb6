"""Measure gradient noise inside a training loop, step by step, without touching it."""
