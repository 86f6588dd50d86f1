"""The sample pairs of a report, as cards to listen to and read."""

from base64 import b64encode

from seamlessalign.markup import Markup, join, tag
from seamlessalign.pipelines.report_samples import Sample, Side
from seamlessalign.rows import SAMPLE_RATE

_SHOWN_CHARACTERS = 800  # of a text or an address; more is no sentence
_UNFOLDED_DIRECTIONS = 6  # with more, the reader opens those of interest
_AUDIO_KINDS = {b"fLaC": "audio/flac", b"OggS": "audio/ogg", b"RIFF": "audio/wav"}


def sample_section(samples: dict[str, list[Sample]]) -> list[Markup]:
    """Cards of all directions, each under its heading; nothing where there are no samples."""
    if not samples:
        return []
    about = (
        "Kept pairs from the highest margin to the lowest, then rejected pairs that came nearest to being kept. "
        "Rejected pairs have no audio: none was cut."
    )
    pieces = [tag("p", about, class_="about")]
    for direction, chosen in samples.items():
        cards = tag("div", *(_card(sample) for sample in chosen), class_="samples")
        unfolded = "" if len(samples) <= _UNFOLDED_DIRECTIONS else None
        pieces.append(tag("details", tag("summary", tag("bdi", direction)), cards, open=unfolded))
    return pieces


def _card(sample: Sample) -> Markup:
    reason = (sample.drop_reason or "no reason given").replace("_", " ")
    head = [
        tag("span", "kept" if sample.kept else f"rejected: {reason}", class_="badge"),
        tag("span", "margin ", tag("b", f"{sample.margin:.4f}")),
    ]
    if sample.cosine is not None:
        head.append(tag("span", f"cosine {sample.cosine:.4f}"))
    if sample.precision is not None:
        head.append(tag("span", f"precision ≈ {sample.precision:.2f}"))
    kind = "sample" if sample.kept else "sample not-kept"
    return tag("article", tag("header", *head), _side(sample.src), _side(sample.tgt), class_=kind)


def _side(side: Side) -> Markup:
    spoken = side.uri is not None and side.start is not None and side.end is not None
    pieces = [tag("small", f"{side.lang} {'speech' if spoken else 'text'}")]
    if side.audio is not None:
        pieces.append(_player(side))
    elif side.audio_left_out:
        pieces.append(tag("p", "Its audio is left out to keep this page small; the corpus has it.", class_="where"))
    if side.text is not None:
        pieces.append(tag("blockquote", tag("bdi", _short(side.text), lang=side.lang)))
    if side.uri is not None and side.start is not None and side.end is not None:
        length = (side.end - side.start) / SAMPLE_RATE
        when = f"{_clock(side.start)}–{_clock(side.end)} ({length:.1f} s)"
        pieces.append(tag("p", f"{when} of ", tag("code", tag("bdi", _short(side.uri))), class_="where"))
    return tag("div", *pieces, class_="side")


def _player(side: Side) -> Markup:
    data = side.audio or b""
    kind = _AUDIO_KINDS.get(data[:4])
    if kind is None:
        return tag("p", "Its audio is in a format that browsers do not play.", class_="where")
    source = f"data:{kind};base64,{b64encode(data).decode('ascii')}"
    label = f"{side.lang} audio"
    player = tag("audio", controls="", preload="metadata", src=source, aria_label=label)
    return join(player, tag("p", "To be heard on a screen.", class_="where on-paper"))


def _short(text: str) -> str:
    return text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + "…"


def _clock(samples: int) -> str:
    """Samples at 16 kHz as minutes and seconds, or with hours in front: 3:07.50, 1:02:03.00."""
    hundredths = round(samples * 100 / SAMPLE_RATE)
    minutes, rest = divmod(hundredths, 6000)
    seconds = f"{rest / 100:05.2f}"
    return f"{minutes}:{seconds}" if minutes < 60 else f"{minutes // 60}:{minutes % 60:02}:{seconds}"
