"""What a batch is asked to do: clips, settings, estimate, result."""
