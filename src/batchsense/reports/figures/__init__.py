"""The figures: each takes ``ax=None``, draws one finding and returns the axes."""
