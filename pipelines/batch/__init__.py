"""Data sets on Ray: ``vidinv batch``. Ray is imported in ``workers`` alone, when a run starts."""
