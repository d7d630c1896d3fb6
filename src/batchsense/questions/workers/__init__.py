"""The room of ``batchsense workers``."""
