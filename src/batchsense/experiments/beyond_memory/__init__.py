"""Tables whose values stay on disk: tested, diagnosed and searched by passes over them."""

from batchsense.experiments.beyond_memory.stored_table import StoredTable, on_disk

__all__ = ["StoredTable", "on_disk"]
