"""Corrections for batch effects, one method a folder, one interface."""
