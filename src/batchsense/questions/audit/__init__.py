"""The room of ``batchsense audit``."""
