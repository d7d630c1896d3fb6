"""The variance that features share, estimated from all of them."""
