"""Batch-size schedules in the training loops of others: Lightning, and Hugging Face's Trainer."""
