"""The built-in real data: digits and their forms, and Python's own source text."""
