"""What each command prints with --json: one published model per file."""
