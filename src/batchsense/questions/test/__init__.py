"""The room of ``batchsense test``."""
