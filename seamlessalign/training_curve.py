"""How a training went, as one SVG: the loss and what validation measures over its steps."""

from collections.abc import Sequence
from html import escape
from typing import Any

_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 640.0, 360.0, 56.0, 56.0, 36.0, 44.0
_LOSS, _FOUND = "#4269d0", "#c2560c"


def curve(
    lines: Sequence[dict[str, Any]], title: str, measure: str, label: str, *, lower_is_better: bool = False
) -> str:
    """An SVG document of a training's metrics.

    Args:
        lines: those of `metrics.jsonl`; the ones with `loss` and with `measure` are drawn, each on an axis of its own.
        title: written above.
        measure: key of what validations find; its axis ends at 1, or at the highest where one is above.
        label: its name on the axis.
        lower_is_better: whether the lowest of them is the best, which is written beside its point.
    """
    loss = [(int(line["step"]), float(line["loss"])) for line in lines if "loss" in line]
    found = [(int(line["step"]), float(line[measure])) for line in lines if measure in line]
    last = max([step for step, _ in loss + found], default=1) or 1
    highest = max([value for _, value in loss], default=1.0) or 1.0
    most = max([1.0, *(value for _, value in found)])

    def x(step: float) -> float:
        return _LEFT + step / last * (_WIDTH - _LEFT - _RIGHT)

    def y(share: float) -> float:
        return _HEIGHT - _BOTTOM - share * (_HEIGHT - _TOP - _BOTTOM)

    parts = [_text(_LEFT, 20, title, "start", "#222", 14)]
    for i in range(5):
        share = i / 4
        parts.append(
            f'<line x1="{_LEFT:g}" x2="{_WIDTH - _RIGHT:g}" y1="{y(share):.1f}" y2="{y(share):.1f}" stroke="#ddd"/>'
        )
        parts.append(_text(_LEFT - 6, y(share) + 4, f"{share * highest:.3g}", "end", _LOSS))
        parts.append(_text(_WIDTH - _RIGHT + 6, y(share) + 4, f"{share * most:.2f}", "start", _FOUND))
        parts.append(_text(x(share * last), _HEIGHT - _BOTTOM + 16, f"{share * last:.0f}", "middle", "#555"))
    parts.append(_text((_LEFT + _WIDTH - _RIGHT) / 2, _HEIGHT - 8, "step", "middle", "#555"))
    parts.append(_text(_LEFT, _TOP - 4, "loss", "end", _LOSS))
    parts.append(_text(_WIDTH - _RIGHT, _TOP - 4, label, "start", _FOUND))
    parts += _line([(x(step), y(value / highest)) for step, value in loss], _LOSS)
    parts += _line([(x(step), y(value / most)) for step, value in found], _FOUND)
    if found:
        step, value = (min if lower_is_better else max)(found, key=lambda point: point[1])
        parts.append(_text(x(step), y(value / most) - 8, f"{value:.3f}", "middle", _FOUND))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH:g} {_HEIGHT:g}" role="img" '
        f'font-family="sans-serif" font-size="11"><title>{escape(title)}</title>'
        f'<rect width="100%" height="100%" fill="#fff"/>{"".join(parts)}</svg>\n'
    )


def _line(points: Sequence[tuple[float, float]], colour: str) -> list[str]:
    if not points:
        return []
    path = " ".join(f"{px:.1f},{py:.1f}" for px, py in points)
    dots = "".join(f'<circle cx="{px:.1f}" cy="{py:.1f}" r="2" fill="{colour}"/>' for px, py in points)
    return [f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.5"/>', dots]


def _text(x: float, y: float, text: str, anchor: str, colour: str, size: int = 11) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}" font-size="{size}">{escape(text)}</text>'
    )
