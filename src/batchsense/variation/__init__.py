"""The mathematics of variation, shared by both sides: numpy and scipy only.

Numbers happen here in pure functions on arrays that return frozen dataclasses.
"""
