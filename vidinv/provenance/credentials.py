"""Content credentials (C2PA) of outputs: who edited what with which program, signed.

c2pa reads the source too, which nobody trusts, so it runs in a child process (``worker``); this
side only asks. It is an optional part: ``pip install -e '.[credentials]'``.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from vidinv.editing.schedules import as_plain
from vidinv.errors import MissingDependencyError, UsageError, VidinvError
from vidinv.files import one_line, printable, printable_values, temporary_path
from vidinv.provenance.comment import edit_comment, made_comment
from vidinv.types import EditSpec, RenderMode
from vidinv.version import __version__
from vidinv.video.credentials_mark import LOST, has_credentials
from vidinv.video.isolation import ChildDied, ChildProcess, ChildStalled

WORKER = "vidinv.provenance.worker"
STALL_SECONDS = 60.0  # between two blocks of a file that is hashed
SWITCH = "VIDINV_CREDENTIALS"  # in the environment: ``off`` is --no-credentials everywhere
# Of what vidinv writes, the containers that c2pa embeds credentials in, with their media types.
SIGNED_KINDS = {
    **dict.fromkeys((".jpg", ".jpeg", ".jfif", ".jpe"), "image/jpeg"),
    **dict.fromkeys((".tif", ".tiff"), "image/tiff"),
    ".png": "image/png",
    ".webp": "image/webp",
    ".avif": "image/avif",
    ".mp4": "video/mp4",
    ".m4v": "video/mp4",
    ".mov": "video/quicktime",
}
PARENT = "source"  # label of the ingredient that was edited
_INSTALL = "pip install -e '.[credentials]' (in the checkout of vidinv)"
_ANY_KIND = "application/octet-stream"
# IPTC's terms for captured media in which a trained model has made parts, and for what it has made
# altogether.
_TERMS = "http://cv.iptc.org/newscodes/digitalsourcetype/"
COMPOSITE = f"{_TERMS}compositeWithTrainedAlgorithmicMedia"
GENERATED = f"{_TERMS}trainedAlgorithmicMedia"
PROGRAM = {"name": "vidinv", "version": __version__}


class CredentialError(VidinvError):
    """Credentials could not be added or read; the message is a reason without the file."""


@dataclass(frozen=True)
class CredentialOptions:
    """Whether and with what outputs are signed.

    Attributes:
        enabled: sign where the optional part is installed and the container takes it.
        certificate, key: paths of PEM files of a certificate chain and its private key; None takes
            the key of this installation, which is made at its first use.
    """

    enabled: bool = True
    certificate: str | None = None
    key: str | None = None

    @property
    def is_explicit(self) -> bool:
        """A certificate was named, so leaving it out would be no answer."""
        return self.certificate is not None

    @property
    def is_wanted(self) -> bool:
        """Outputs are to be signed, as far as options and environment say."""
        switched_off = os.environ.get(SWITCH, "").lower() in ("off", "0", "no")
        return self.enabled and (self.is_explicit or not switched_off)

    def resolved(self) -> CredentialOptions:
        """The same wherever a worker runs: absolute paths, and the switch of this environment."""
        paths = [None if p is None else os.path.abspath(p) for p in (self.certificate, self.key)]
        return CredentialOptions(self.is_wanted, *paths)


@dataclass(frozen=True)
class EditedFrom:
    """What a credential says of an output.

    Attributes:
        source: the file that was edited, and the name that is told of it.
        spec, pack: what was done, with the model pack of that name.
    """

    source: Path
    name: str
    spec: EditSpec
    pack: str

    def ingredients(self) -> list[dict[str, str]]:
        """What it was made from, for ``worker``."""
        return [_ingredient(self.source, self.name, relationship="parentOf", label=PARENT)]

    def actions(self) -> list[dict[str, Any]]:
        """What was done, as C2PA has it."""
        spec = self.spec
        made = {} if spec.mode is RenderMode.INVERT else as_plain(spec.attributes)
        parameters = {
            "vidinv.attributes": made,
            "vidinv.method": spec.method,
            "vidinv.pack": self.pack,
        }
        opened = {"action": "c2pa.opened", "parameters": {"ingredientIds": [PARENT]}}
        comment = edit_comment(spec, pack=self.pack)
        return [opened, _action("c2pa.edited", COMPOSITE, comment, parameters)]


@dataclass(frozen=True)
class MadeFrom:
    """What a credential says of pictures that the generator made of several faces.

    Attributes:
        sources: files with the faces.
        what: was done, as ``made_comment`` has it.
        method, pack: by which method, with the model pack of that name.
    """

    sources: tuple[Path, ...]
    what: str
    method: str
    pack: str

    @property
    def comment(self) -> str:
        """The line that stands in the output."""
        return made_comment(self.what, method=self.method, pack=self.pack)

    def ingredients(self) -> list[dict[str, str]]:
        """What it was made from, for ``worker``."""
        return [
            _ingredient(path, path.name, relationship="inputTo", label=f"face-{number}")
            for number, path in enumerate(self.sources)
        ]

    def actions(self) -> list[dict[str, Any]]:
        """What was done, as C2PA has it."""
        parameters = {"vidinv.method": self.method, "vidinv.pack": self.pack}
        return [_action("c2pa.created", GENERATED, self.comment, parameters)]


def _ingredient(path: Path, name: str, *, relationship: str, label: str) -> dict[str, str]:
    return {
        "path": os.path.abspath(path),
        "kind": SIGNED_KINDS.get(path.suffix.lower(), _ANY_KIND),
        "title": printable(name),
        "relationship": relationship,
        "label": label,
    }


def _action(name: str, kind: str, comment: str, parameters: dict[str, Any]) -> dict[str, Any]:
    return {
        "action": name,
        "when": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "digitalSourceType": kind,
        "softwareAgent": PROGRAM,
        "description": comment,
        "parameters": parameters,
    }


def is_installed() -> bool:
    """The optional part is there."""
    return all(importlib.util.find_spec(name) is not None for name in ("c2pa", "cryptography"))


def check_credentials(options: CredentialOptions) -> None:
    """Find out before the work whether a certificate that was named can sign.

    Raises:
        UsageError: options that go with no signature.
        MissingDependencyError: the optional part is absent.
    """
    if (options.certificate is None) != (options.key is None):
        raise UsageError("--sign-cert and --sign-key go together: give both or none")
    if not options.is_explicit:
        return
    if not options.enabled:
        raise UsageError("--no-credentials and --sign-cert exclude each other")
    if not is_installed():
        raise MissingDependencyError(f"--sign-cert needs c2pa-python: {_INSTALL}")
    try:
        ask("check", signer=_signer(options))
    except CredentialError as error:
        raise UsageError(f"--sign-cert {options.certificate}: {error}") from None


class Finisher:
    """Signs complete files before they get their names (``finish`` of writers).

    Args:
        output: the name to be; its extension says the kind.
        edited: what is told of it.
        on_alive: called now and then while it works.

    Attributes:
        warnings: why an output is not signed; the output is kept all the same.
    """

    def __init__(
        self,
        options: CredentialOptions,
        output: Path,
        edited: EditedFrom | MadeFrom,
        *,
        on_alive: Callable[[], None] = lambda: None,
    ) -> None:
        self.warnings: list[str] = []
        self._options, self._output, self._edited = options, output, edited
        self._on_alive = on_alive

    def __call__(self, path: Path) -> None:
        """Sign ``path`` in place, where that is wanted and possible."""
        if self._signs(path):
            return
        if any(has_credentials(source["path"]) for source in self._edited.ingredients()):
            self.warnings.append(f"{LOST}the output is not signed")

    def _signs(self, path: Path) -> bool:
        if not self._options.is_wanted:
            return False
        if not is_installed():
            if self._options.is_explicit:
                self.warnings.append(f"not signed: c2pa-python is missing here: {_INSTALL}")
            return False
        kind = SIGNED_KINDS.get(self._output.suffix.lower())
        if kind is None:
            suffix = self._output.suffix
            self.warnings.append(f"{suffix} files hold no content credentials: it is not signed")
            return False
        try:
            self._sign(path, kind)
        except CredentialError as error:
            self.warnings.append(f"content credentials could not be added ({error})")
            return False
        return True

    def _sign(self, path: Path, kind: str) -> None:
        signed = temporary_path(self._output)
        try:
            ask(
                "sign",
                on_alive=self._on_alive,
                path=os.path.abspath(path),
                signed=os.path.abspath(signed),
                kind=kind,
                ingredients=self._edited.ingredients(),
                manifest=manifest(self._output.name, kind, self._edited),
                signer=_signer(self._options),
            )
            os.replace(signed, path)
        except OSError as error:
            raise CredentialError(str(error.strerror)) from None
        finally:
            signed.unlink(missing_ok=True)


def manifest(name: str, kind: str, edited: EditedFrom | MadeFrom) -> dict[str, Any]:
    """What is signed: c2pa's manifest definition.

    Args:
        name: of the output.
        kind: its media type.
    """
    actions = {"label": "c2pa.actions.v2", "data": {"actions": edited.actions()}}
    data = {"claim_generator_info": [PROGRAM], "title": name, "format": kind}
    return printable_values({**data, "assertions": [actions]})  # type: ignore[no-any-return]


def read_credentials(path: Path) -> dict[str, Any] | None:
    """c2pa's report on the credentials in a file, as its reader gives it; None where it has none.

    Raises:
        MissingDependencyError: the optional part is absent.
        CredentialError: they cannot be read.
    """
    if not is_installed():
        raise MissingDependencyError(f"content credentials need c2pa-python: {_INSTALL}")
    found: dict[str, Any] | None = ask("read", path=os.path.abspath(path))["credentials"]
    return found


def key_file() -> Path:
    """Key and certificate of this installation, in the user's configuration folder."""
    base = os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")
    return Path(base) / "vidinv" / "credentials.pem"


def ask(
    task: str,
    *,
    on_alive: Callable[[], None] = lambda: None,
    worker: str = WORKER,
    **request: Any,
) -> Any:
    """The answer of a child process, ``worker``, to one task.

    Raises:
        CredentialError: it refused, crashed or hung.
    """
    child = ChildProcess(worker, request={"task": task, **request}, on_alive=on_alive)
    try:
        answer = child.receive(timeout_seconds=STALL_SECONDS)
    except ChildStalled:
        raise CredentialError(f"c2pa hung for {STALL_SECONDS:g} s") from None
    except ChildDied as error:
        raise CredentialError(f"c2pa crashed ({error})") from None
    finally:
        child.close()
    if "error" in answer:
        raise CredentialError(one_line(" ".join(answer["error"].split())))
    return answer


def _signer(options: CredentialOptions) -> dict[str, str]:
    """Where the worker finds key and certificate."""
    if options.certificate is None or options.key is None:
        return {"own": str(key_file())}
    return {"certificate": options.certificate, "key": options.key}
