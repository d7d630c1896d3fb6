"""The room of ``batchsense collocation``."""
