"""Rows that share a subject: one correlation for all features, or variances of each feature."""
