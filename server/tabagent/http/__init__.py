"""HTTP routes over the core."""
