"""Surrogate variables: columns for the batches that nobody wrote down."""
