"""Pieces of HTML that the report and the index share: document, section, table, figure."""

from __future__ import annotations

import html
import json
from collections.abc import Iterable, Sequence

from vidinv.files import printable
from vidinv.report.model import plain
from vidinv.report.style import STYLE

# Nothing may be fetched, whatever a name smuggles in.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"


def document(title: str, body: str, *, script: str = "", data: object = None) -> str:
    """A whole HTML document around a body; file names that are not UTF-8 are escaped."""
    held = (
        "" if data is None else f'<script type="application/json" id="data">{_safe(data)}</script>'
    )
    return printable(
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(title)}</title><style>{STYLE}</style></head>"
        f"<body><main>{body}</main>{held}<script>{script}</script></body></html>\n"
    )


def _safe(data: object) -> str:
    """JSON that cannot end the script element it stands in."""
    return json.dumps(data, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")


def value(figure: float | None, digits: int = 3, *, sign: bool = False) -> str:
    """A figure as text that carries its full value; a dash where it was not measured."""
    exact = plain(figure)
    if exact is None:
        return '<span class="none" title="not measured">–</span>'
    text = f"{exact:{'+' if sign else ''}.{digits}f}"
    return f'<data value="{exact}">{text}</data>'


def failed(content: str, is_so: bool) -> str:
    """Content of a cell, in the colour of a fault where it is one."""
    return f'<span class="failed">{content}</span>' if is_so else content


def section(title: str, content: str, *, css: str = "", note: str = "") -> str:
    """A titled part of the page."""
    hint = f'<p class="note">{note}</p>' if note else ""
    return f'<section class="{css}"><h2>{html.escape(title)}</h2>{hint}{content}</section>'


def table(head: Sequence[str], rows: Iterable[Sequence[str]], *, css: str = "") -> str:
    """A table of ready HTML cells that scrolls by itself where the screen is narrow."""
    top = "".join(f"<th>{html.escape(cell)}</th>" for cell in head)
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return (
        f'<div class="scroll"><table class="{css}"><thead><tr>{top}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )
