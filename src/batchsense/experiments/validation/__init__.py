"""Validation across batches: what shuffled folds promise, and what a new batch gets."""
