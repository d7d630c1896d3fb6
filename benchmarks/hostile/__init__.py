"""Hostile inputs, drawn from seeds: tables with their sheets, words of the command line, jobs."""
