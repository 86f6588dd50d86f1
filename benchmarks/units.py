"""What units know of the sounds of speech, and how fast they are made.

Sentences are spoken by espeak-ng, which says when each phone begins, in several voices. Of the frames of 20 ms outside
of pauses the table has, for each directory of units (HuBERT, arXiv 2106.07447, IV.E, has the measures):

- PNMI: mutual information of phone and unit, as a share of the phone's entropy;
- phone purity: the share of frames whose phone is the one that their unit has most often;
- unit purity: the share whose unit is the one that their phone has most often;
- place: mutual information of unit and place in the utterance, tenths of a second, as a share of the units' entropy;
  of units that are about sounds alone it is low;
- units a second, reduced; how many of all units occur; and hours of speech made into units per core-hour, the share of
  which is spent on finding centroids.

    python -m benchmarks.units runs/units/model runs/units-fbank/model
"""

import argparse
import ctypes
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import soxr

from seamlessalign.espeak import Espeak, find_espeak
from seamlessalign.rows import SAMPLE_RATE
from seamlessalign.training.units.extractor import UnitExtractor
from seamlessalign.training.units.features import STRIDE
from seamlessalign.training.units.repeats import reduce_units

Float32 = npt.NDArray[np.float32]

_VOICES = ("en-us", "en-us+f2", "en-us+m3", "en-us+f4")
_PHONEME = 7  # espeak_EVENT_TYPE
_EVENTS, _IPA = 1, 2  # options of espeak_Initialize
_PAUSES = ("", "_", "_:")
_SENTENCES = (
    "The train to the city leaves at nine in the morning.",
    "My sister works in a big hospital near the river.",
    "Please enter your conference number followed by the pound key.",
    "The children are playing football behind the old church.",
    "It will rain tomorrow in the mountains and snow in the north.",
    "Yesterday we ate fresh fish with bread and a little cheese.",
    "The museum is closed on Monday, but the library is open.",
    "Nobody knows who painted this strange and beautiful picture.",
    "He measured the voltage twice and wrote down both values.",
    "A good question deserves a short and honest answer.",
    "The judge asked the witness to speak louder and more slowly.",
    "Thousands of birds fly over this valley every autumn.",
    "You should have joined us; the voyage was a pure pleasure.",
    "She thought that both of them would choose the other path.",
    "An unusual noise from the garage woke the whole family.",
    "They shared a huge pot of soup and went home before dark.",
)


class _Event(ctypes.Structure):
    _fields_ = [
        ("type", ctypes.c_int),
        ("identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),  # milliseconds
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("name", ctypes.c_char * 8),
    ]


class Speller(Espeak):
    """espeak-ng that also tells which phone it says from when on, stress left out."""

    def __init__(self) -> None:
        library, data = find_espeak()
        super().__init__(library, data)
        self.phones: list[tuple[float, str]] = []  # seconds, IPA
        self._engine.espeak_Initialize(2, 0, data.encode() if data else None, _EVENTS | _IPA)
        self._engine.espeak_SetSynthCallback(self._callback)

    def spell(self, text: str, voice: str) -> tuple[Float32, list[tuple[float, str]]]:
        """Samples at 16 kHz, and the phones with the seconds at which they begin."""
        self.phones = []
        samples = self.speak(text, voice)
        return np.asarray(soxr.resample(samples, self.sample_rate, SAMPLE_RATE), np.float32), self.phones

    def _hear(self, wav: Any, num_samples: int, events: int | None) -> int:
        place = events or 0
        while place and (event := _Event.from_address(place)).type:
            if event.type == _PHONEME:
                self.phones.append((event.audio_position / 1000, event.name.decode("utf-8", "ignore").strip("ˈˌ")))
            place += ctypes.sizeof(_Event)
        return super()._hear(wav, num_samples, events)


@dataclass
class Counted:
    """Frames by phone and unit, and what making units took."""

    pairs: list[tuple[str, int]] = field(default_factory=list)
    places: list[tuple[str, int]] = field(default_factory=list)  # unit, tenth of a second
    runs: int = 0
    seconds: float = 0.0
    taken: float = 0.0  # core-seconds
    assigning: float = 0.0


def measures(pairs: Sequence[tuple[str, int]]) -> dict[str, float]:
    """PNMI, phone purity and unit purity of frames, each of which has a phone and a unit."""
    phones, of_phone = np.unique([phone for phone, _ in pairs], return_inverse=True)
    units, of_unit = np.unique([unit for _, unit in pairs], return_inverse=True)
    joint = np.zeros((len(phones), len(units)))
    np.add.at(joint, (of_phone, of_unit), 1 / len(pairs))
    phone, unit = joint.sum(1), joint.sum(0)
    there = joint > 0
    information = float((joint[there] * np.log(joint[there] / np.outer(phone, unit)[there])).sum())
    entropy = float(-(phone * np.log(phone)).sum())
    return {
        "pnmi": information / entropy,
        "phone_purity": float(joint.max(0).sum()),
        "unit_purity": float(joint.max(1).sum()),
    }


def count(extractor: UnitExtractor, spoken: Sequence[tuple[Float32, list[tuple[float, str]]]]) -> Counted:
    """Make the units of what was spoken, and lay them beside the phones."""
    counted, offset = Counted(), extractor.features.offset / SAMPLE_RATE
    extractor.extract(spoken[0][0])  # what is loaded when it is first used
    began = time.process_time()
    found = extractor.extract_batch([samples for samples, _ in spoken])
    counted.taken = time.process_time() - began
    frames = extractor.features.frames([samples for samples, _ in spoken])
    began = time.process_time()
    extractor.nearest(np.concatenate(frames))
    counted.assigning = time.process_time() - began
    for (samples, phones), units in zip(spoken, found, strict=True):
        counted.seconds += len(samples) / SAMPLE_RATE
        counted.runs += len(reduce_units(units)[0])
        begins = np.array([begin for begin, _ in phones])
        times = offset + np.arange(len(units)) * STRIDE / SAMPLE_RATE
        places = np.searchsorted(begins, times, side="right") - 1
        for time_of, place, unit in zip(times.tolist(), places.tolist(), units.tolist(), strict=True):
            if place >= 0 and phones[place][1] not in _PAUSES:
                counted.pairs.append((phones[place][1], unit))
                counted.places.append((str(unit), int(time_of * 10)))
    return counted


def main() -> None:
    """Print a line for each directory of units."""
    parser = argparse.ArgumentParser(description="what units know of phones, and how fast they are made")
    parser.add_argument("units", nargs="+", help="directories that `train units` wrote")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    speller = Speller()
    spoken = [speller.spell(text, voice) for voice in _VOICES for text in _SENTENCES]
    phones = {phone for _, some in spoken for _, phone in some} - set(_PAUSES)
    minutes = sum(len(samples) for samples, _ in spoken) / SAMPLE_RATE / 60
    print(f"{len(spoken)} sentences in {len(_VOICES)} voices, {minutes:.1f} minutes, {len(phones)} phones")
    heads = ("k", 6), ("used", 6), ("PNMI", 7), ("phone", 7), ("unit", 7), ("place", 7), ("runs/s", 8), ("h/core-h", 10)
    print(f"{'units':<32}{''.join(f'{head:>{width}}' for head, width in heads)}{'k-means':>9}")
    for directory in options.units:
        extractor = UnitExtractor.load(directory, {}, options.device, options.threads)
        done = count(extractor, spoken)
        found, place = measures(done.pairs), measures(done.places)["pnmi"]
        shares = [found["pnmi"], found["phone_purity"], found["unit_purity"], place]
        print(
            f"{'/'.join(Path(directory).parts[-2:]):<32}{extractor.num_units:>6}{len({u for _, u in done.pairs}):>6}"
            f"{''.join(f'{share:>7.3f}' for share in shares)}{done.runs / done.seconds:>8.1f}"
            f"{done.seconds / done.taken:>10.1f}{done.assigning / done.taken:>9.1%}"
        )


if __name__ == "__main__":
    main()
