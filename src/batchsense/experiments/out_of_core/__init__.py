"""Matrices that do not fit in memory: two passes over chunks, one result, here or on a cluster."""

from batchsense.experiments.out_of_core.cluster import Cluster, connected
from batchsense.experiments.out_of_core.correcting import (
    CorrectedStore,
    StoredMatrix,
    correct_store,
)
from batchsense.experiments.out_of_core.engine import MEMORY, Engine, ThisProcess

__all__ = [
    "MEMORY",
    "Cluster",
    "CorrectedStore",
    "Engine",
    "StoredMatrix",
    "ThisProcess",
    "connected",
    "correct_store",
]
