"""The room of ``batchsense gap``."""
