"""Data sets on Ray: ``vidinv batch``. Only ``workers`` imports ray, when a run starts."""
