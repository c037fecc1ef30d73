"""Runs: one clip in this process (edit), data sets on Ray (batch), reports."""
