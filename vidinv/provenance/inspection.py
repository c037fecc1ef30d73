"""What a file says about its making: ``vidinv inspect``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vidinv.errors import MissingDependencyError
from vidinv.files import one_line
from vidinv.provenance.comment import is_edit_comment
from vidinv.provenance.credentials import CredentialError, read_credentials
from vidinv.video.describing import comment_of, describe

Report = dict[str, Any]
Read = Callable[[Path], Report | None]
_ACTIONS = "c2pa.actions"
# What c2pa's words for the state of credentials mean.
_STATES = {
    "Valid": "whole, but signed by somebody unknown (on no list of trusted certificates)",
    "Trusted": "whole, and signed by somebody on a list of trusted certificates",
    "Invalid": "INVALID: the file is not what was signed",
}


@dataclass(frozen=True)
class Inspection:
    """What was found in a file.

    Attributes:
        description: as ``vidinv.video.describing.describe`` gives it.
        credentials: as c2pa gives them, or None.
        note: why there are no credentials; None where there are.
    """

    file: str
    description: Report
    credentials: Report | None
    note: str | None

    @property
    def comment(self) -> str | None:
        return comment_of(self.description)

    @property
    def is_edited(self) -> bool:
        """vidinv has edited faces in it, as its comment says."""
        return is_edit_comment(self.comment or "")

    def as_dict(self) -> Report:
        """Plain types only, ready for ``json.dumps``."""
        return {
            "file": self.file,
            **self.description,
            "comment": self.comment,
            "edited_by_vidinv": self.is_edited,
            "credentials": self.credentials,
            "credentials_note": self.note,
        }

    def lines(self) -> list[str]:
        """For a terminal, a fact a line."""
        found = self.description
        rows = [("file", self.file), (found["kind"], found["format"])]
        rows += [(f"stream {s['index']}", _stream_line(s)) for s in found["streams"]]
        rows += [(f"tag {name}", text) for name, text in found["tags"].items()]
        rows.append(("edited", "by vidinv, as its comment says" if self.is_edited else "not said"))
        rows += [("credentials", self.note)] if self.note else _credential_rows(self.credentials)
        return [one_line(f"{label:<17} {text}") for label, text in rows]


def inspect(path: Path, *, read: Read = read_credentials) -> Inspection:
    """Read metadata and content credentials of a clip or picture.

    Args:
        read: gives the credentials.

    Raises:
        DecodeError: neither a clip nor a picture that can be read.
    """
    description = describe(path)
    credentials, note = None, None
    try:
        credentials = read(path)
        note = None if credentials else "none in the file"
    except (MissingDependencyError, CredentialError) as error:
        note = f"not read: {error}"
    return Inspection(str(path), description, credentials, note)


def _stream_line(stream: Report) -> str:
    size = f" {stream['size']}" if "size" in stream else ""
    tags = "".join(f", {name}: {text}" for name, text in stream["tags"].items())
    return f"{stream['kind']}, {stream['codec'] or 'unknown'}{size}{tags}"


def _credential_rows(found: Report | None) -> list[tuple[str, str]]:
    """State, signer, actions and sources of the manifest that speaks of the file as it is."""
    if found is None:
        return []
    state = str(found.get("validation_state"))
    active = found.get("manifests", {}).get(found.get("active_manifest"), {})
    signer = active.get("signature_info", {})
    rows = [
        ("credentials", _STATES.get(state, state)),
        ("signed by", f"{signer.get('common_name') or signer.get('issuer')}"),
    ]
    for assertion in active.get("assertions", []):
        if assertion["label"].startswith(_ACTIONS):
            rows += [("action", _action_line(a)) for a in assertion["data"]["actions"]]
    rows += [
        ("made from", f"{source.get('title')} ({source.get('format')})")
        for source in active.get("ingredients", [])
    ]
    return rows


def _action_line(action: Report) -> str:
    kind = str(action.get("digitalSourceType", "")).rpartition("/")[2]
    said = (str(action[name]) for name in ("when", "description") if name in action)
    return ", ".join([str(action["action"]), *said, *([kind] if kind else [])])
