"""What outputs say about how they were made: a comment, and content credentials (C2PA).

The names below load on first use: the child process in which c2pa runs imports this package too,
and must start without torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vidinv.provenance.comment import edit_comment, is_edit_comment, made_comment
    from vidinv.provenance.credentials import (
        CredentialOptions,
        EditedFrom,
        Finisher,
        MadeFrom,
        check_credentials,
        read_credentials,
    )

_HOMES = {
    "CredentialOptions": "credentials",
    "EditedFrom": "credentials",
    "Finisher": "credentials",
    "MadeFrom": "credentials",
    "check_credentials": "credentials",
    "edit_comment": "comment",
    "is_edit_comment": "comment",
    "made_comment": "comment",
    "read_credentials": "credentials",
}

__all__ = [
    "CredentialOptions",
    "EditedFrom",
    "Finisher",
    "MadeFrom",
    "check_credentials",
    "edit_comment",
    "is_edit_comment",
    "made_comment",
    "read_credentials",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
