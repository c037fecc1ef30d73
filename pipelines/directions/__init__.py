"""Finding directions of a pack's generator, and looking at them."""
