"""Reports of a run: JSON and one self-contained HTML page."""
