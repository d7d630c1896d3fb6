"""Run a loss on any part of a minibatch: own copy, own precision, own random numbers."""
