"""The figures of expression tables: specimens, features, and what was tested on them."""
