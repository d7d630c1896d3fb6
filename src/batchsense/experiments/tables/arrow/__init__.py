"""Arrow: Parquet files, and arrays made and read by their buffers."""
