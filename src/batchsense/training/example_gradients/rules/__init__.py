"""How each operation of torch uses a parameter, and what that adds to every example's gradient."""
