"""How mixed the neighbours of specimens are."""
