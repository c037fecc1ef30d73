"""Data sets on Ray: ``vidinv batch``. Only ``ray_workers`` imports ray, when a run starts."""
