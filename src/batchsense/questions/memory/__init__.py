"""The room of ``batchsense memory``."""
