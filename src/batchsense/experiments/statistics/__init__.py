"""Statistics that several chapters of experiments need: confounding, tail areas, many tests."""
