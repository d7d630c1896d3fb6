"""A probe: the parts of a distributed step, measured one by one, and put together again."""
