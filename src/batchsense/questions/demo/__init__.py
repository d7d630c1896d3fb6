"""The room of ``batchsense demo``."""
