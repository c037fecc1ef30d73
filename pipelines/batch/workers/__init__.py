"""Ray actors that run the tasks of a batch."""
