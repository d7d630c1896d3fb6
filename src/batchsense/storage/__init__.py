"""Files: written in one piece, guarded before any work, and known again when they are ours."""
