"""Pictures of a language identifier as SVG: its confusions, and macro F1 over the share of clips that are rejected."""

from collections.abc import Sequence
from html import escape

from seamlessalign.label_measures import confusion
from seamlessalign.lid.measures import CurvePoint

_CELL, _SIDE, _TOP = 26.0, 64.0, 64.0


def confusion_svg(truth: Sequence[str], answers: Sequence[str], title: str) -> str:
    """A square for each true language (rows) and answer (columns), darker the larger its share of the row."""
    rows, columns, counts = confusion(truth, answers)
    width, height = _SIDE + _CELL * len(columns) + 20, _TOP + _CELL * len(rows) + 30
    parts = [_text(_SIDE, 18, title, "start", 14)]
    for j, name in enumerate(columns):
        x = _SIDE + (j + 0.5) * _CELL
        parts.append(
            f'<text transform="translate({x + 4:g},{_TOP - 6:g}) rotate(-60)" fill="#222">{escape(name)}</text>'
        )
    for i, name in enumerate(rows):
        y = _TOP + i * _CELL
        total = int(counts[i].sum())
        parts.append(_text(_SIDE - 6, y + _CELL / 2 + 4, name, "end"))
        for j, other in enumerate(columns):
            count = int(counts[i, j])
            share = count / total if total else 0.0
            colour = "#2a6f4e" if other == name else "#b5321f"
            parts.append(
                f'<rect x="{_SIDE + j * _CELL:g}" y="{y:g}" width="{_CELL - 1:g}" height="{_CELL - 1:g}" '
                f'fill="{colour}" fill-opacity="{0.06 + 0.94 * share if count else 0.03:.3f}">'
                f"<title>{escape(name)} taken for {escape(other)}: {count} of {total}</title></rect>"
            )
            if count:
                ink = "#fff" if share > 0.5 else "#222"
                parts.append(
                    _text(_SIDE + (j + 0.5) * _CELL, y + _CELL / 2 + 3.5, str(count), "middle", 9 - count // 1000, ink)
                )
    parts.append(_text(_SIDE, height - 10, "rows: spoken; columns: taken for", "start"))
    return _document(width, height, title, parts)


def rejection_svg(
    curves: Sequence[tuple[str, Sequence[CurvePoint]]], chosen: Sequence[tuple[float, float, str]], title: str
) -> str:
    """Macro F1 of the clips that are left, over the share that is rejected.

    Args:
        curves: (name, points) of each line.
        chosen: (share, macro F1, name) of points that thresholds of each language gave.
        title: written above.
    """
    width, height, left, right, top, bottom = 640.0, 360.0, 56.0, 150.0, 40.0, 44.0
    shares = [point.rejected for _, points in curves for point in points] + [share for share, _, _ in chosen]
    values = [point.macro_f1 for _, points in curves for point in points] + [value for _, value, _ in chosen]
    most = max([*shares, 0.01])
    low, high = min([*values, 1.0]), max([*values, 0.0])
    low, high = max(low - 0.02, 0.0), min(high + 0.02, 1.0)

    def x(share: float) -> float:
        return left + share / most * (width - left - right)

    def y(value: float) -> float:
        return height - bottom - (value - low) / (high - low) * (height - top - bottom)

    parts = [_text(left, 20, title, "start", 14)]
    for i in range(6):
        value, share = low + (high - low) * i / 5, most * i / 5
        parts.append(
            f'<line x1="{left:g}" x2="{width - right:g}" y1="{y(value):.1f}" y2="{y(value):.1f}" stroke="#ddd"/>'
        )
        parts.append(_text(left - 6, y(value) + 4, f"{value:.3f}", "end"))
        parts.append(_text(x(share), height - bottom + 16, f"{100 * share:.0f} %", "middle"))
    parts.append(_text((left + width - right) / 2, height - 8, "clips rejected", "middle"))
    parts.append(_text(left, top - 6, "macro F1 of the others", "start"))
    colours = ("#4269d0", "#c2560c", "#2a6f4e", "#7a4fb5", "#b5321f", "#555555")
    for number, (name, points) in enumerate(curves):
        colour = colours[number % len(colours)]
        line = " ".join(f"{x(point.rejected):.1f},{y(point.macro_f1):.1f}" for point in points)
        parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="1.6"/>')
        row = top + 14 + 18 * number
        parts.append(
            f'<line x1="{width - right + 16:g}" x2="{width - right + 36:g}" y1="{row - 4:g}" y2="{row - 4:g}" '
            f'stroke="{colour}" stroke-width="3"/>'
        )
        parts.append(_text(width - right + 42, row, name, "start"))
    for share, value, name in chosen:
        parts.append(
            f'<circle cx="{x(share):.1f}" cy="{y(value):.1f}" r="4" fill="#222"><title>{escape(name)}: '
            f"{100 * share:.1f} % rejected, macro F1 {value:.3f}</title></circle>"
        )
    if chosen:
        row = top + 14 + 18 * len(curves)
        parts.append(f'<circle cx="{width - right + 26:g}" cy="{row - 4:g}" r="4" fill="#222"/>')
        parts.append(_text(width - right + 42, row, "thresholds", "start"))
    return _document(width, height, title, parts)


def _document(width: float, height: float, title: str, parts: Sequence[str]) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" role="img" '
        f'font-family="sans-serif" font-size="11"><title>{escape(title)}</title>'
        f'<rect width="100%" height="100%" fill="#fff"/>{"".join(parts)}</svg>\n'
    )


def _text(x: float, y: float, text: str, anchor: str, size: int = 11, colour: str = "#222") -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}" fill="{colour}">{escape(text)}</text>'
    )
