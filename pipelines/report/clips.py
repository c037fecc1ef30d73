"""The pictures that a report compares, in step: source, output and, made on the way, inversion."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from pipelines.parallel import Prefetch
from pipelines.report.inversion_meter import Inverted
from vidinv.errors import UsageError
from vidinv.rendering import FaceEdit
from vidinv.report import ClipFacts
from vidinv.types import Frame, Image
from vidinv.video import VideoInfo, is_image_path, open_reader, probe, read_image

Invert = Callable[[Iterator[Frame]], Iterator[Inverted]]


@dataclass(frozen=True)
class Step:
    """A frame of the source, the pictures of that moment by name, and inverted faces by track.

    Attributes:
        seconds: since the source's first frame.
    """

    frame: Frame
    seconds: float
    pictures: Mapping[str, Image]
    faces: Mapping[int, FaceEdit]


@dataclass
class FrameTimes:
    """Times of a clip's frames, counted from the first one.

    Attributes:
        at_seconds: of the newest frame since the first.
        last_seconds: how long the newest frame is shown; 0 where the file does not say.
    """

    num_frames: int = 0
    first_seconds: float = 0.0
    at_seconds: float = 0.0
    last_seconds: float = 0.0

    def note(self, frame: Frame) -> float:
        """The next frame; its seconds since the first."""
        if not self.num_frames:
            self.first_seconds = frame.time_seconds
        self.num_frames += 1
        self.at_seconds = frame.time_seconds - self.first_seconds
        self.last_seconds = float(frame.duration * frame.time_base)
        return self.at_seconds

    @property
    def interval_seconds(self) -> float:
        """Mean time between two frames; 0 of a single one."""
        return self.at_seconds / max(1, self.num_frames - 1)

    @property
    def seconds(self) -> float:
        """From the first frame until the last one is over."""
        return self.at_seconds + (self.last_seconds or self.interval_seconds)


class Clips:
    """A source and what was made from it.

    Args:
        on_error: what becomes of damage of the source (``open_reader``).

    Attributes:
        sizes: width and height by name, known once pictures were read; ``times`` likewise.
    """

    def __init__(self, source: Path, output: Path, *, on_error: str = "stop") -> None:
        self.source, self.output, self._on_error = source, output, on_error
        self.sizes: dict[str, tuple[int, int]] = {}
        self.times = {"source": FrameTimes(), "output": FrameTimes()}
        self._apart: tuple[float, int, float, float] = (0.0, 0, 0.0, 0.0)

    def check(self, *, probe: Callable[..., VideoInfo] = probe) -> None:
        """UsageError for clips of different size or length, before anything is measured.

        What a container says of its frames may be an estimate, or count what cannot be decoded; so
        a difference is only a reason to count, which takes a fraction of the measuring.

        Args:
            probe: reads what a container says.
        """
        if is_image_path(self.source):
            return
        infos = [probe(self.source, on_error=self._on_error), probe(self.output)]
        self._check_sizes(*((info.width, info.height) for info in infos))
        said = [info.num_frames for info in infos]
        if said[0] == said[1] or None in said:
            return
        counted = [_count(self.source, self._on_error), _count(self.output)]
        if counted[0] != counted[1]:
            raise self._other_length(*counted)

    def pixel_aspect(self) -> float:
        """Of the source: width over height of a pixel."""
        if is_image_path(self.source):
            return 1.0
        return probe(self.source, on_error=self._on_error).pixel_aspect

    def source_frames(self, stack: contextlib.ExitStack) -> Iterator[Frame]:
        """The source alone; its reader lives as long as ``stack``."""
        return _open(self.source, stack, self._on_error)

    def in_step(self, invert: Invert | None = None) -> Generator[Step, None, None]:
        """Every frame of the source with the output's picture and, where made, the inversion's.

        Raises:
            UsageError: clips of different size, or one that ends before the other.
        """
        with contextlib.ExitStack() as stack:
            frames = _open(self.source, stack, self._on_error)
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
                yield Step(made.frame, self.times["source"].at_seconds, pictures, made.faces)

    def notes(self) -> list[str]:
        """What is odd about the two together, once all of their pictures were read."""
        apart, number, source, output = self._apart
        if apart <= self.times["source"].interval_seconds / 2:
            return []
        return [
            "the clips keep different times, and were compared frame by frame: counted from the "
            f"first frame, frame {number} is at {source:.2f} s in the source and at {output:.2f} s "
            "in the output"
        ]

    def facts(self, name: str, *, shown: str, num_frames: int) -> ClipFacts:
        """What a report says of the source or the output, once their pictures were read."""
        seconds = round(self.times[name].seconds, 3)
        return ClipFacts(shown, num_frames, *self.sizes[name], seconds)

    def _note(self, frame: Frame, other: Frame) -> None:
        (w, h), (ow, oh) = frame.image.shape[1::-1], other.image.shape[1::-1]
        self._check_sizes((w, h), (ow, oh))
        self.sizes = {"source": (w, h), "output": (ow, oh)}
        source, output = self.times["source"].note(frame), self.times["output"].note(other)
        self._apart = max(self._apart, (abs(source - output), frame.index, source, output))

    def _check_sizes(self, source: tuple[int, int], output: tuple[int, int]) -> None:
        if source != output:
            (w, h), (ow, oh) = source, output
            raise UsageError(
                f"{self.source} is {w}x{h} and {self.output} {ow}x{oh}: "
                "a report compares clips of the same size"
            )

    def _other_length(self, source: int, output: int) -> UsageError:
        return UsageError(
            f"{self.source} has {source} frames and {self.output} {output}: "
            "give an output together with the very clip that it was made from"
        )


def _open(path: Path, stack: contextlib.ExitStack, on_error: str = "stop") -> Iterator[Frame]:
    """Frames of a clip or the one of a picture; the reader lives as long as ``stack``."""
    if is_image_path(path):
        return iter([Frame(index=0, pts=0, time_base=Fraction(1), image=read_image(path))])
    return iter(stack.enter_context(open_reader(path, on_error=on_error)))


def _count(path: Path, on_error: str = "stop") -> int:
    with open_reader(path, on_error=on_error) as reader:
        return sum(1 for _ in reader)
