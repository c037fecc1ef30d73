"""Charts as inline SVG without a library: lines over frames, box plots, a ruler.

Curves are drawn in a 1000 x 100 box that stretches to the page's width (strokes keep their width);
words and numbers are HTML placed in percent, so that they stay readable on a phone.
"""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

Series = Sequence[tuple[int, float | None]]
_WIDTH, _HEIGHT = 1000.0, 100.0
_TICKS = 4  # about so many numbers on an axis


@dataclass(frozen=True)
class Line:
    """One curve of a track: ``points`` are (frame, value) in frame order; ``css`` its colour."""

    name: str
    css: str
    points: Series
    track: int = 0


@dataclass(frozen=True)
class Level:
    """A horizontal line to compare with."""

    value: float
    label: str


@dataclass(frozen=True)
class TimeAxis:
    """What all charts of a page share: frames 0..``num_frames`` - 1, and marks on them.

    Attributes:
        gaps: longest step between neighbouring points that is still drawn as a line, frames.
        marks: (first, last, reason) of runs of frames that stand out.
        cuts: first frames of new shots.
    """

    num_frames: int
    gaps: int = 1
    marks: Sequence[tuple[int, int, str]] = ()
    cuts: Sequence[int] = ()

    def x(self, frame: float) -> float:
        """Position in 0..1000: each frame has a column of its own."""
        return (frame + 0.5) / max(self.num_frames, 1) * _WIDTH


def line_chart(
    title: str,
    lines: Sequence[Line],
    axis: TimeAxis,
    *,
    unit: str = "",
    levels: Sequence[Level] = (),
    at_least: tuple[float, float] | None = None,
) -> str:
    """A chart of curves over frames.

    Args:
        levels: lines to compare with; always inside the chart.
        at_least: values that the axis covers in any case.
    """
    values = [v for line in lines for _, v in line.points if v is not None]
    ticks = nice_ticks([*values, *(level.value for level in levels), *(at_least or ())])
    low, high = ticks[0], ticks[-1]

    def y(value: float) -> float:
        return (high - value) / (high - low) * _HEIGHT

    shapes = [*_grid(ticks, y), *_marks(axis)]
    shapes += [_horizontal(y(level.value), "level") for level in levels]
    shapes += [shape for line in lines for shape in _curve(line, axis, y)]
    labels = [_label(y(tick), number(tick), "tick") for tick in ticks]
    # On the side of the line where there is more room.
    sides = {level: "" if y(level.value) > _HEIGHT / 2 else " under" for level in levels}
    labels += [_label(y(at.value), at.label, f"level-label{side}") for at, side in sides.items()]
    legend = "".join(
        f'<span class="key {css}">{html.escape(name)}</span>'
        for name, css in dict.fromkeys((line.name, line.css) for line in lines)
    )
    heading = f"{html.escape(title)}{_unit(unit)}"
    return (
        f'<figure class="chart"><figcaption><b>{heading}</b>{legend}</figcaption>'
        f'<div class="plot" data-plot><svg viewBox="0 0 1000 100" preserveAspectRatio="none" '
        f'role="img" aria-label="{html.escape(title)}">{"".join(shapes)}</svg>'
        f'{"".join(labels)}<i class="cursor"></i></div></figure>'
    )


def _unit(unit: str) -> str:
    return f' <span class="unit">{html.escape(unit)}</span>' if unit else ""


def _grid(ticks: Sequence[float], y) -> list[str]:  # type: ignore[no-untyped-def]
    return [_horizontal(y(tick), "grid") for tick in ticks]


def _horizontal(y: float, css: str) -> str:
    return f'<line class="{css}" x1="0" x2="1000" y1="{y:.2f}" y2="{y:.2f}"/>'


def _marks(axis: TimeAxis) -> list[str]:
    shapes = []
    for first, last, reason in axis.marks:
        left, right = axis.x(first - 0.5), axis.x(last + 0.5)
        width = max(right - left, 2.0)
        shapes.append(
            f'<rect class="mark {reason}" x="{left:.2f}" y="0" width="{width:.2f}" height="100"/>'
        )
    for cut in axis.cuts:
        x = axis.x(cut - 0.5)
        shapes.append(f'<line class="cut" x1="{x:.2f}" x2="{x:.2f}" y1="0" y2="100"/>')
    return shapes


def _curve(line: Line, axis: TimeAxis, y) -> list[str]:  # type: ignore[no-untyped-def]
    """Polylines of the connected runs; a lone point is a short dash."""
    shapes = []
    for run in _connected(line.points, axis.gaps):
        if len(run) == 1:
            (frame, value) = run[0]
            run = [(frame - 0.3, value), (frame + 0.3, value)]
        points = " ".join(f"{axis.x(frame):.1f},{y(value):.2f}" for frame, value in run)
        shapes.append(
            f'<polyline class="curve {line.css}" data-track="{line.track}" points="{points}"/>'
        )
    return shapes


def _connected(points: Series, gap: int) -> list[list[tuple[float, float]]]:
    runs: list[list[tuple[float, float]]] = []
    for frame, value in points:
        if value is None:
            continue
        if not runs or frame - runs[-1][-1][0] > gap or frame <= runs[-1][-1][0]:
            runs.append([])
        runs[-1].append((frame, value))
    return runs


def _label(y: float, text: str, css: str) -> str:
    return f'<span class="{css}" style="top:{y:.2f}%">{html.escape(text)}</span>'


@dataclass(frozen=True)
class Box:
    """Five numbers of a distribution, and its mean."""

    low: float
    first: float
    median: float
    third: float
    high: float
    mean: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Box:
        """Whiskers reach the farthest value within 1.5 boxes of the box (Tukey)."""
        data = np.asarray(values, np.float64)
        first, median, third = np.quantile(data, [0.25, 0.5, 0.75])
        reach = 1.5 * (third - first)
        inside = data[(data >= first - reach) & (data <= third + reach)]
        edges = (inside.min(), first, median, third, inside.max(), data.mean())
        return cls(*(float(edge) for edge in edges))


def box_plot(
    title: str,
    groups: Mapping[str, tuple[str, Sequence[float]]],
    *,
    unit: str = "",
    levels: Sequence[Level] = (),
) -> str:
    """Horizontal boxes, one a group: name -> (colour class, values); outliers as dots."""
    groups = {name: group for name, group in groups.items() if len(group[1])}
    values = [v for _, group in groups.values() for v in group]
    ticks = nice_ticks([*values, *(level.value for level in levels)])
    low, high = ticks[0], ticks[-1]

    def x(value: float) -> float:
        return (value - low) / (high - low) * 100

    rows = "".join(_box_row(name, css, data, x) for name, (css, data) in groups.items())
    lines = "".join(
        f'<i class="at" style="left:{x(level.value):.2f}%"></i>'
        f'<span class="at-label" style="left:{x(level.value):.2f}%">{html.escape(level.label)}'
        "</span>"
        for level in levels
    )
    numbers = "".join(f'<span style="left:{x(tick):.2f}%">{number(tick)}</span>' for tick in ticks)
    return (
        f'<figure class="boxes"><figcaption><b>{html.escape(title)}{_unit(unit)}</b></figcaption>'
        f'<div class="rows{" with-levels" if levels else ""}">{rows}'
        f'<div class="over">{lines}</div></div><div class="numbers">{numbers}</div></figure>'
    )


def _box_row(name: str, css: str, values: Sequence[float], x) -> str:  # type: ignore[no-untyped-def]
    box = Box.of(values)
    outside = sorted({round(x(v), 1) for v in values if v < box.low or v > box.high})
    dots = "".join(f'<i class="dot" style="left:{at}%"></i>' for at in outside)
    say = (
        f"{name}: median {box.median:.3f}, quartiles {box.first:.3f} to {box.third:.3f}, "
        f"mean {box.mean:.3f}"
    )
    return (
        f'<div class="row {css}" title="{html.escape(say)}"><span class="name">'
        f'{html.escape(name)}</span><div class="track">'
        f'<i class="whisker" style="left:{x(box.low):.2f}%;right:{100 - x(box.high):.2f}%"></i>'
        f'<i class="box" style="left:{x(box.first):.2f}%;right:{100 - x(box.third):.2f}%"></i>'
        f'<i class="median" style="left:{x(box.median):.2f}%"></i>'
        f'<i class="mean" style="left:{x(box.mean):.2f}%"></i>{dots}</div></div>'
    )


def nice_ticks(values: Sequence[float]) -> list[float]:
    """Round numbers that enclose ``values``, about ``_TICKS`` of them; at least two."""
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    if high - low < 1e-6:
        low, high = low - 0.05, high + 0.05
    rough = (high - low) / _TICKS
    unit = 10.0 ** math.floor(math.log10(rough))
    step = next(unit * factor for factor in (1, 2, 2.5, 5, 10) if unit * factor >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(number * step, 10) for number in range(first, max(last, first + 1) + 1)]


def number(value: float) -> str:
    """A tick without superfluous noughts."""
    return f"{value:.6g}"
