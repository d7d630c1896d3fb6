"""Matrices on disk, read a few rows at a time: where they lie, and spans of their rows."""
