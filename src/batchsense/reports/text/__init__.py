"""What each command prints for people: one file per command."""
