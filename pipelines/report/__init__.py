"""Compare an edited clip with its source."""
