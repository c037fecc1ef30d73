"""What a batch has done so far: journal, resume, progress, reports."""
