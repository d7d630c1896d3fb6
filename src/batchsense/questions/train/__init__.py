"""The room of ``batchsense train``."""
