"""What a request must pass before it reaches a page: connection, name, key, origin and size."""
