"""Two passes over the data: one sums up, one corrects; each in pieces, compiled where it pays."""
