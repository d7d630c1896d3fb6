"""The room of ``batchsense temperature``."""
