"""A pair of a run, to be read, heard and looked at."""

from base64 import b64encode
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from seamlessalign import storage
from seamlessalign.audio import encode
from seamlessalign.charts import WIDTH, nice_ticks
from seamlessalign.errors import InputError
from seamlessalign.markup import Markup, tag
from seamlessalign.pictures import Picture
from seamlessalign.pipelines.curation.listening import CONTEXT_SECONDS, Heard, Listening, NotHeard, Side
from seamlessalign.pipelines.report_parts import tidy
from seamlessalign.rows import SAMPLE_RATE

Samples = npt.NDArray[np.float32]
_COLUMNS = 340  # lines of a waveform


class Sound:
    """Speech to be heard: `samples` is float32 (num_samples,) at `sample_rate`, of which `span` is what was paired.

    Notebooks show a player for it. `note` says why there is nothing around the span where some was asked for.
    """

    def __init__(self, heard: Heard, label: str) -> None:
        self._heard, self._label = heard, label
        self.sample_rate = SAMPLE_RATE
        self.note = heard.note

    @property
    def samples(self) -> Samples:
        """float32 (num_samples,)."""
        return self._heard.samples

    @property
    def span(self) -> tuple[int, int]:
        """Where in the samples the span lies, [first, last)."""
        return self._heard.first, self._heard.last

    @property
    def seconds(self) -> float:
        """How long it is."""
        return len(self.samples) / SAMPLE_RATE

    def save(self, path: str | Path) -> None:
        """Write it to a file or address that ends in `.flac`, `.ogg` (Opus) or `.wav`. Raises InputError for others."""
        uri = str(path)
        suffix = uri.lower().rpartition(".")[2]
        if suffix in ("flac", "ogg", "opus"):
            data = encode(self.samples, "flac" if suffix == "flac" else "opus")
        elif suffix == "wav":
            data = _wave(self.samples)
        else:
            raise InputError(f"{uri}: sound is written as .flac, .ogg or .wav")
        storage.write_bytes_atomic(uri, data)

    def plot(self) -> Picture:
        """Its waveform, with the span in colour."""
        return Picture([waveform(self._heard, 0.0)], f"waveform of {self._label}")

    def _repr_html_(self) -> str:
        source = f"data:audio/flac;base64,{b64encode(encode(self.samples, 'flac')).decode('ascii')}"
        return tag("audio", controls="", preload="metadata", src=source, aria_label=self._label)

    def __repr__(self) -> str:
        return f"<sound: {self._label}, {self.seconds:.2f} s at {self.sample_rate} Hz>"


@dataclass(frozen=True)
class PairSide:
    """One side of a pair: a text, or speech of a recording. Seconds are those of the recording."""

    lang: str
    text: str | None
    uri: str | None
    start: float | None
    end: float | None
    name: str  # src or tgt
    _listening: Listening
    _row: dict[str, Any]

    @property
    def is_audio(self) -> bool:
        """Whether it is speech."""
        return self.uri is not None

    @property
    def audio(self) -> Sound | None:
        """The speech of the span; None of a text. Raises InputError saying why it cannot be heard."""
        return self.in_context(0.0) if self.is_audio else None

    def in_context(self, seconds: float = CONTEXT_SECONDS) -> Sound:
        """The speech with so many seconds before and behind, as far as the recording goes.

        Raises InputError where the side is text, or cannot be heard: the recording is gone or another one, and the
        corpus does not have the pair.
        """
        if not (isinstance(seconds, int | float) and seconds >= 0):
            raise InputError(f"{seconds!r} seconds around a span: give 0 or more")
        heard = self._heard(seconds)
        if isinstance(heard, NotHeard):
            raise InputError(f"pair {self._row['pair_id']}: its {self.name} speech cannot be heard: {heard.reason}")
        return Sound(heard, f"{self.lang} speech, {self.name} of pair {self._row['pair_id']}")

    def _heard(self, seconds: float) -> Heard | NotHeard:
        side: Side = "src" if self.name == "src" else "tgt"
        found = self._listening.heard(self._row, side, seconds)
        if found is None:
            raise InputError(f"pair {self._row['pair_id']}: its {self.name} side is text: there is nothing to hear")
        return found

    def __repr__(self) -> str:
        if self.start is not None and self.end is not None:
            file = str(self.uri).rsplit("/", 1)[-1]
            return f"<{self.lang} speech, {self.start:.2f} to {self.end:.2f} s of {file}>"
        return f"<{self.lang} text: {self.text!r}>"


class OpenedPair:
    """A pair with all that a run knows of it, kept or not: `margin`, `cosine`, `kept`, … and both sides."""

    def __init__(self, row: dict[str, Any], listening: Listening) -> None:
        self.row = row
        self.pair_id: str = row["pair_id"]
        self.direction: str = row["direction"]
        self.margin: float = row["margin"]
        self.cosine: float = row["cosine"]
        self.precision_estimate: float | None = row["precision_estimate"]
        self.kept: bool = row["kept"]
        self.drop_reason: str | None = row["drop_reason"]
        self.src, self.tgt = (_side(row, name, listening) for name in ("src", "tgt"))

    def plot(self, context: float = CONTEXT_SECONDS) -> Picture:
        """Waveforms of the sides that are speech, the span in colour, with so many seconds around it."""
        charts, headings = [], []
        for side in (self.src, self.tgt):
            if side.is_audio:
                sound = side.in_context(context)
                first = (side.start or 0.0) - sound.span[0] / SAMPLE_RATE
                charts.append(waveform(sound._heard, first))
                headings.append(f"{side.lang}, seconds of the recording")
        return Picture(charts, f"pair {self.pair_id} of {self.direction}", headings)

    @property
    def _became(self) -> str:
        return "kept" if self.kept else f"rejected: {tidy(self.drop_reason or 'no reason given')}"

    def __repr__(self) -> str:
        estimate = "" if self.precision_estimate is None else f", precision ≈ {self.precision_estimate:.2f}"
        return (
            f"<pair {self.pair_id} of {self.direction}, margin {self.margin:.3f}{estimate}, {self._became}\n"
            f"  src {self.src!r}\n  tgt {self.tgt!r}>"
        )

    def _repr_html_(self) -> str:
        told = [self._became, f"margin {self.margin:.4f}", f"cosine {self.cosine:.4f}"]
        told += [] if self.precision_estimate is None else [f"precision ≈ {self.precision_estimate:.2f}"]
        head = tag("p", tag("b", self.direction), *(f" · {one}" for one in told))
        return tag("div", head, *(_shown(side) for side in (self.src, self.tgt)))


def waveform(heard: Heard, first_second: float) -> Markup:
    """A side and what is around it, the span in colour and above a line; time begins at `first_second`."""
    left, right, top, height, foot = 8.0, 8.0, 6.0, 84.0, 22.0
    total = max(len(heard.samples), 1)
    width = WIDTH - left - right
    found = heard.peaks(_COLUMNS)
    loudest = max(float(np.abs(found).max(initial=0.0)), 1e-4)
    middle, reach = top + (height - foot - top) / 2, (height - foot - top) / 2
    step = width / _COLUMNS

    def x_of(sample: float) -> float:
        return left + sample / total * width

    paths = {"wave": "", "wave inside": ""}
    for column, (low, high) in enumerate(found.tolist()):
        sample = (column + 0.5) * total / _COLUMNS
        kind = "wave inside" if heard.first <= sample < heard.last else "wave"
        y, tall = middle - high / loudest * reach, max((high - low) / loudest * reach, 0.6)
        paths[kind] += f"M{left + column * step:.1f} {y:.1f}h{step * 0.8:.2f}v{tall:.1f}h{-step * 0.8:.2f}z"
    parts = [tag("path", class_=kind, d=path) for kind, path in paths.items() if path]
    base = height - foot
    line = {"x1": x_of(heard.first), "x2": x_of(heard.last), "y1": base, "y2": base}
    parts.append(tag("line", class_="interval", **line))
    last_second = first_second + total / SAMPLE_RATE
    for second in nice_ticks(first_second, last_second, 6):
        if first_second <= second <= last_second:
            x = x_of((second - first_second) * SAMPLE_RATE)
            parts.append(tag("line", class_="axis", x1=x, x2=x, y1=base, y2=base + 4))
            x = min(max(x, 14.0), WIDTH - 14.0)
            parts.append(tag("text", f"{second:g} s", class_="tick", x=x, y=base + 16, text_anchor="middle"))
    inside = (heard.last - heard.first) / SAMPLE_RATE
    title = f"Waveform of {total / SAMPLE_RATE:.1f} s, of which {inside:.1f} s are the span"
    box = f"0 0 {WIDTH:g} {height:g}"
    return tag("svg", tag("title", title), *parts, viewBox=box, role="img", aria_label=title, class_="chart")


def _side(row: dict[str, Any], name: str, listening: Listening) -> PairSide:
    start, end = row[f"{name}_start"], row[f"{name}_end"]
    return PairSide(
        row[f"{name}_lang"],
        row[f"{name}_text"],
        row[f"{name}_uri"],
        None if start is None else start / SAMPLE_RATE,
        None if end is None else end / SAMPLE_RATE,
        name,
        listening,
        row,
    )


def _shown(side: PairSide) -> Markup:
    if not side.is_audio:
        return tag("blockquote", tag("bdi", side.text or "", lang=side.lang))
    try:
        sound = side.in_context(0.0)
    except InputError as error:
        return tag("p", str(error))
    return tag("p", f"{side.lang} speech ", Markup(sound._repr_html_()))


def _wave(samples: Samples) -> bytes:
    import io

    import soundfile

    buffer = io.BytesIO()
    soundfile.write(buffer, np.clip(samples, -1.0, 1.0), SAMPLE_RATE, format="WAV", subtype="PCM_16")
    return buffer.getvalue()
