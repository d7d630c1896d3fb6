"""Which figures each report shows, and what each of them says."""
