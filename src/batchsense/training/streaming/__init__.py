"""Training on tables larger than memory, with a known and bounded loss of randomness."""

from batchsense.training.streaming.block_sampling import design_effect, effective_size, least_pool
from batchsense.training.streaming.planning import StreamPlan, plan_stream
from batchsense.training.streaming.shuffling import shuffle_rows
from batchsense.training.streaming.stream import BlockStream

__all__ = [
    "BlockStream",
    "StreamPlan",
    "design_effect",
    "effective_size",
    "least_pool",
    "plan_stream",
    "shuffle_rows",
]
