"""What columns of a sheet are together: several batches of any kind, and gaps in what is needed."""
