"""What the benchmarks share: small training jobs, and how results are written."""
