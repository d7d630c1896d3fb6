"""The room of ``batchsense surrogates``."""
