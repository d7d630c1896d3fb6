"""What is sent to ``batchsense web`` to see what it bears."""
