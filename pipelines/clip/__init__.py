"""One clip: its plan, what is kept of it, the session that renders it."""
