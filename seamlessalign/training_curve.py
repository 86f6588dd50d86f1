"""How a training went, as one SVG: the loss and what validation measures over its steps."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 640.0, 360.0, 56.0, 56.0, 52.0, 44.0
_LOSS, _FOUND, _GREY = "#4269d0", "#c2560c", "#555"
_WIDE = 5.0  # losses that are so many times as high as others are drawn on a logarithmic axis
_DOTTED = 60  # points; more are a line only


def curve(
    lines: Sequence[dict[str, Any]], title: str, measure: str, label: str, *, lower_is_better: bool = False
) -> str:
    """An SVG document of a training's metrics.

    Args:
        lines: those of `metrics.jsonl`; the ones with `loss` and with `measure` are drawn, each on an axis of its own.
        title: written above.
        measure: key of what validations find.
        label: its name for people.
        lower_is_better: whether the lowest of them is the best, which is written in the legend and has a ring.
    """
    loss = [(int(line["step"]), float(line["loss"])) for line in lines if "loss" in line]
    found = [(int(line["step"]), float(line[measure])) for line in lines if measure in line]
    steps = [step for step, _ in loss + found]
    across = _Axis(0.0, float(max(steps, default=1) or 1))

    def x(step: float) -> float:
        return _LEFT + across.share(step) * (_WIDTH - _LEFT - _RIGHT)

    def y(share: float) -> float:
        return _HEIGHT - _BOTTOM - share * (_HEIGHT - _TOP - _BOTTOM)

    parts = [_text(_LEFT, 20, title, "start", "#222", 14)]
    for height in (0.0, 1.0):
        parts.append(_rule(_LEFT, _WIDTH - _RIGHT, y(height), y(height), "#999" if not height else "#ddd"))
    for tick in across.ticks(6, whole=True):
        parts.append(_text(x(tick), y(0) + 16, f"{tick:.10g}", "middle", _GREY))
    parts.append(_text((_LEFT + _WIDTH - _RIGHT) / 2, _HEIGHT - 8, "step", "middle", _GREY))
    legend = _LEFT
    for points, colour, told in ((loss, _LOSS, "loss"), (found, _FOUND, label)):
        if not points:
            continue
        axis = _axis([value for _, value in points])
        left = colour == _LOSS
        for tick in axis.ticks(5):
            height = y(axis.share(tick))
            if left or not loss:
                parts.append(_rule(_LEFT, _WIDTH - _RIGHT, height, height, "#eee"))
            at, anchor = (_LEFT - 6, "end") if left else (_WIDTH - _RIGHT + 6, "start")
            parts.append(_text(at, height + 4, f"{tick:.10g}", anchor, colour))
        parts += _line([(x(step), y(axis.share(value))) for step, value in points], colour)
        told += f" ({'left' if left else 'right'}{', logarithmic' if axis.logarithmic else ''})"
        if not left:
            step, value = (min if lower_is_better else max)(points, key=lambda point: point[1])
            told += f", best {value:.3f} at step {step}"
            ring = f'<circle cx="{x(step):.1f}" cy="{y(axis.share(value)):.1f}" r="5" fill="none" stroke="{colour}"/>'
            parts.append(ring)
        parts.append(_rule(legend, legend + 18, 36, 36, colour, 2))
        parts.append(_text(legend + 24, 40, told, "start", colour))
        legend += 190
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH:g} {_HEIGHT:g}" role="img" '
        f'font-family="sans-serif" font-size="11"><title>{escape(title)}</title>'
        f'<rect width="100%" height="100%" fill="#fff"/>{"".join(parts)}</svg>\n'
    )


@dataclass(frozen=True)
class _Axis:
    """From a lowest value to a highest, which are not the same."""

    low: float
    high: float
    logarithmic: bool = False

    def share(self, value: float) -> float:
        """How far along it a value is, from 0 to 1."""
        if self.logarithmic:
            return (math.log(value) - math.log(self.low)) / (math.log(self.high) - math.log(self.low))
        return (value - self.low) / (self.high - self.low)

    def ticks(self, most: int, *, whole: bool = False) -> list[float]:
        """Round values on it, about so many."""
        if self.logarithmic:
            powers = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
            mantissas = (1, 2, 5) if self.high / self.low < 1e3 else (1,)
            values = [mantissa * 10.0**power for power in powers for mantissa in mantissas]
            return [value for value in values if self.low <= value <= self.high][:: max(1, len(powers) // most)]
        rough = (self.high - self.low) / most
        size = 10.0 ** math.floor(math.log10(rough))
        apart = next(size * times for times in (1, 2, 5, 10) if size * times >= rough)
        if whole:
            apart = max(1.0, apart)
        first = math.ceil(self.low / apart - 1e-9)
        return [number * apart for number in range(first, math.floor(self.high / apart + 1e-9) + 1)]


def _axis(values: Sequence[float]) -> _Axis:
    """An axis on which values are apart as far as can be."""
    low, high = min(values), max(values)
    if low > 0 and high > _WIDE * low:
        return _Axis(low * 0.95, high * 1.05, logarithmic=True)
    room = (high - low) * 0.05 or max(abs(high) * 0.05, 1e-6)
    return _Axis(low - room, high + room)


def _line(points: Sequence[tuple[float, float]], colour: str) -> list[str]:
    path = " ".join(f"{px:.1f},{py:.1f}" for px, py in points)
    dots = [f'<circle cx="{px:.1f}" cy="{py:.1f}" r="2" fill="{colour}"/>' for px, py in points]
    line = f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.5"/>'
    return [line, *(dots if len(dots) <= _DOTTED else [])]


def _rule(x1: float, x2: float, y1: float, y2: float, colour: str, width: float = 1) -> str:
    where = f'x1="{x1:.1f}" x2="{x2:.1f}" y1="{y1:.1f}" y2="{y2:.1f}"'
    return f'<line {where} stroke="{colour}" stroke-width="{width:g}"/>'


def _text(x: float, y: float, text: str, anchor: str, colour: str, size: int = 11) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}" font-size="{size}">{escape(text)}</text>'
    )
