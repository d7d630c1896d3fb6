"""Layouts: who goes into which batch, planned so that nothing wanted goes with the batches."""
