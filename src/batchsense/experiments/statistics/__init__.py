"""What only experiments need of statistics: counts, priors of variances, many tests at once."""
