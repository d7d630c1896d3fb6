"""The room of ``batchsense plan``."""
