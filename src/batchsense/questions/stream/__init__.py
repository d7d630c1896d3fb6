"""The room of ``batchsense stream``."""
