"""The room of ``batchsense noise``."""
