"""Which examples of a minibatch influence which others, and where in the code they meet."""
