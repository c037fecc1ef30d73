"""Measuring packs and methods: speed, inversion, editing."""
