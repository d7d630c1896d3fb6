"""The room of ``batchsense diagnose``."""
