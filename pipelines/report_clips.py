"""The pictures that a report compares, in step: source, output and, made on the way, inversion."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from pipelines.parallel import Prefetch
from pipelines.report_inversion import Inverted
from vidinv.errors import UsageError
from vidinv.stages import FaceEdit
from vidinv.types import Frame, Image
from vidinv.video import is_image_path, open_reader, probe, read_image

Invert = Callable[[Iterator[Frame]], Iterator[Inverted]]


@dataclass(frozen=True)
class Step:
    """A frame of the source, the pictures of that moment by name, and inverted faces by track."""

    frame: Frame
    pictures: Mapping[str, Image]
    faces: Mapping[int, FaceEdit]


class Clips:
    """A source and what was made from it.

    Attributes:
        sizes: width and height by name, known once pictures were read; ``last_seconds`` likewise.
    """

    def __init__(self, source: Path, output: Path) -> None:
        self.source, self.output = source, output
        self.sizes: dict[str, tuple[int, int]] = {}
        self.last_seconds: dict[str, float] = {"source": 0.0, "output": 0.0}

    def check_lengths(self) -> None:
        """UsageError for clips of different length, before anything is measured.

        What a container says may be an estimate, or count what cannot be decoded; so a difference
        is only a reason to count, which takes a fraction of the measuring.
        """
        if is_image_path(self.source):
            return
        said = [probe(path).num_frames for path in (self.source, self.output)]
        if said[0] == said[1] or None in said:
            return
        counted = [_count(path) for path in (self.source, self.output)]
        if counted[0] != counted[1]:
            raise self._other_length(*counted)

    def source_frames(self, stack: contextlib.ExitStack) -> Iterator[Frame]:
        """The source alone; its reader lives as long as ``stack``."""
        return _open(self.source, stack)

    def in_step(self, invert: Invert | None = None) -> Generator[Step, None, None]:
        """Every frame of the source with the output's picture and, where made, the inversion's.

        Raises:
            UsageError: clips of different size, or one that ends before the other.
        """
        with contextlib.ExitStack() as stack:
            frames = _open(self.source, stack)
            steps = map(Inverted, frames) if invert is None else invert(frames)
            source = stack.enter_context(Prefetch(steps, depth=4, name="source"))
            output = stack.enter_context(
                Prefetch(_open(self.output, stack), depth=4, name="output")
            )
            for number, (made, other) in enumerate(itertools.zip_longest(source, output)):
                if made is None or other is None:
                    rest = sum(1 for _ in (output if made is None else source))
                    longer = number + 1 + rest
                    lengths = (number, longer) if made is None else (longer, number)
                    raise self._other_length(*lengths)
                self._note(made.frame, other)
                pictures = {"source": made.frame.image, "output": other.image}
                if made.picture is not None:
                    pictures["inversion"] = made.picture
                yield Step(made.frame, pictures, made.faces)

    def _note(self, frame: Frame, other: Frame) -> None:
        (w, h), (ow, oh) = frame.image.shape[1::-1], other.image.shape[1::-1]
        if (w, h) != (ow, oh):
            raise UsageError(
                f"{self.source} is {w}x{h} and {self.output} {ow}x{oh}: "
                "a report compares clips of the same size"
            )
        self.sizes = {"source": (w, h), "output": (ow, oh)}
        self.last_seconds = {"source": frame.time_seconds, "output": other.time_seconds}

    def _other_length(self, source: int, output: int) -> UsageError:
        return UsageError(
            f"{self.source} has {source} frames and {self.output} {output}: "
            "give an output together with the very clip that it was made from"
        )


def _open(path: Path, stack: contextlib.ExitStack) -> Iterator[Frame]:
    """Frames of a clip or the one of a picture; the reader lives as long as ``stack``."""
    if is_image_path(path):
        return iter([Frame(index=0, pts=0, time_base=Fraction(1), image=read_image(path))])
    return iter(stack.enter_context(open_reader(path)))


def _count(path: Path) -> int:
    with open_reader(path) as reader:
        return sum(1 for _ in reader)
