"""What kind of thing a loss is, read from its gradients on a whole and on parts."""
