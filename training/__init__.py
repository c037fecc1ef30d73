"""Training of the models that packs carry."""
