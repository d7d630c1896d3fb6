"""Corrections for batch effects, one method a file, one interface."""
