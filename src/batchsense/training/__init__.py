"""Batches you choose: the batch size of a training run, measured, decided and explained."""
