"""Where the clips of a batch are found and read from."""
