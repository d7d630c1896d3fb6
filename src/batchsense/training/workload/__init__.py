"""What is trained: model, loss, examples and optimizer, read, checked and run without a trace."""
