"""Matrices that do not fit in memory: two passes over chunks, one result, here or on a cluster."""

from batchsense.experiments.scale.cluster import Cluster, connected
from batchsense.experiments.scale.correcting import CorrectedStore, correct_store
from batchsense.experiments.scale.engine import ThisProcess

__all__ = ["Cluster", "CorrectedStore", "ThisProcess", "connected", "correct_store"]
