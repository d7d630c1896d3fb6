"""Batches you suffer: batch effects diagnosed, told apart from biology, and corrected."""
