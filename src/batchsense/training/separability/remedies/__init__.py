"""What can be done about a loss that cannot simply be split."""
