"""The stages of a batch: their table, tasks, and functions."""
