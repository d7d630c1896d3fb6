"""From noise, step time and memory to a batch size."""
