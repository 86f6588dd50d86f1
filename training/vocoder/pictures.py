"""Pictures of log-mel spectrograms as SVG, one above the other, to compare what was said with what was made of it."""

import base64
import struct
import zlib
from collections.abc import Sequence
from html import escape

import numpy as np
import numpy.typing as npt

_LEFT, _TOP, _GAP, _BOTTOM, _HEIGHT = 20.0, 42.0, 26.0, 24.0, 160.0
_SECOND = 220.0  # how wide one is


def mel_svg(panels: Sequence[tuple[str, npt.NDArray[np.float32]]], title: str, seconds: float) -> str:
    """An SVG document of spectrograms `(num_mels, num_frames)` with names, all in one scale of greys, dark is loud.

    seconds: how long they last.
    """
    low = min(float(mel.min()) for _, mel in panels)
    span = max(max(float(mel.max()) for _, mel in panels) - low, 1e-6)
    width = seconds * _SECOND
    parts = [_text(_LEFT, 18, title, 14)]
    for number, (name, mel) in enumerate(panels):
        top = _TOP + number * (_HEIGHT + _GAP)
        grey = np.clip((1 - (mel[::-1] - low) / span) * 255, 0, 255).round().astype(np.uint8)
        picture = base64.b64encode(png(grey)).decode()
        parts.append(_text(_LEFT, top - 5, name))
        parts.append(
            f'<image x="{_LEFT:g}" y="{top:g}" width="{width:.1f}" height="{_HEIGHT:g}" preserveAspectRatio="none" '
            f'href="data:image/png;base64,{picture}"/>'
        )
    height = _TOP + len(panels) * (_HEIGHT + _GAP) - _GAP + _BOTTOM
    half_seconds = np.arange(0, seconds + 1e-9, 0.5)
    parts += [_text(_LEFT + float(time) * _SECOND, height - 8, f"{time:g} s", 10) for time in half_seconds]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width + 2 * _LEFT:.1f} {height:g}" role="img" '
        f'font-family="sans-serif"><title>{escape(title)}</title><rect width="100%" height="100%" fill="#fff"/>'
        f"{''.join(parts)}</svg>\n"
    )


def png(grey: npt.NDArray[np.uint8]) -> bytes:
    """A picture `(height, width)` of greys as PNG (ISO/IEC 15948)."""
    height, width = grey.shape
    rows = b"".join(b"\0" + row.tobytes() for row in grey)  # each with filter 0
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(rows, 9)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )


def _text(x: float, y: float, text: str, size: int = 11) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" fill="#222" font-size="{size}">{escape(text)}</text>'
