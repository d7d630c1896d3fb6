"""The room of ``batchsense layout``."""
