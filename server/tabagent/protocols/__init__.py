"""Wire dialects: sans-I/O mappings between messages and events."""
