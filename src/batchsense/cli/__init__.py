"""The command line: one file per command; the exit codes are answers."""
