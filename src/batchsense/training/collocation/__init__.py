"""Physics-informed networks by minibatches of collocation points."""
