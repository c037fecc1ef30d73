"""Tables of measurements for people: aligned columns, what is absent as a dash."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        key: of a row.
        title: at its head.
        digits: behind the point; None for text.
    """

    key: str
    title: str
    digits: int | None = None

    def cell(self, row: Mapping[str, object]) -> str:
        value = row.get(self.key)
        if value is None:
            return "-"
        return str(value) if self.digits is None else f"{value:.{self.digits}f}"


def table_lines(columns: Sequence[Column], rows: Sequence[Mapping[str, object]]) -> list[str]:
    """Head and rows; the first column is flush left, figures are flush right."""
    cells = [[column.title for column in columns]]
    cells += [[column.cell(row) for column in columns] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = []
    for first, *others in cells:
        figures = [text.rjust(width) for text, width in zip(others, widths[1:], strict=True)]
        lines.append("  ".join([first.ljust(widths[0]), *figures]).rstrip())
    return lines
