"""Files of visitors: taken in, looked at before they are read, and told by their columns."""
