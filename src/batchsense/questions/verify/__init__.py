"""The room of ``batchsense verify``."""
