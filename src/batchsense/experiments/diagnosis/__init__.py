"""Diagnosis of batch effects: shares of variance, confounding, one verdict."""
