"""Weights of observations and of specimens, and fits with them."""
