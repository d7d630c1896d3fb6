"""The room of ``batchsense correct``."""
