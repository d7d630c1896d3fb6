"""The room of ``batchsense probe``."""
