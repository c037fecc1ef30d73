"""What outputs say about how they were made: a comment in the file, and how it is read again."""

from vidinv.provenance.comment import edit_comment, is_edit_comment, made_comment

__all__ = ["edit_comment", "is_edit_comment", "made_comment"]
