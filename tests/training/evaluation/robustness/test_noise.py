"""Noisy versions of speech: their SNR, what they follow from, and whose speech babbles."""

import json
import os
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from seamlessalign.errors import InputError, SeamlessAlignError, UnreadableError
from seamlessalign.espeak import speak_afresh
from seamlessalign.rows import SAMPLE_RATE
from seamlessalign.speech_sources import Sound, load_sound
from seamlessalign.training.evaluation.robustness.noise import LOWEST_HERTZ, Condition, NoiseMaker, coloured_noise
from seamlessalign.training.evaluation.robustness.robustness_settings import Noise
from seamlessalign.training.evaluation.rows import TestRow, read_test_rows

SNRS = (10.0, 5.0, 0.0, -5.0, -10.0, -15.0, -20.0)
HERTZ = (300, 500, 700, 900, 1100, 1300, 1500, 1700)


def _rows(folder: Path, speakers: str = "aabbccdd") -> list[TestRow]:
    """Each speaks as a tone of its own, so that what babbles shows."""
    rows = []
    for number, (hertz, speaker) in enumerate(zip(HERTZ, speakers, strict=True)):
        file = folder / f"{number}.wav"
        seconds = np.arange(int(SAMPLE_RATE * (0.5 + number / 7))) / SAMPLE_RATE
        soundfile.write(file, 0.01 * (number + 1) * np.sin(2 * np.pi * hertz * seconds), SAMPLE_RATE)
        rows.append(
            TestRow(f"r{number}", "fra", "eng", (f"text {number}",), src_sound=Sound(str(file)), speaker=speaker)
        )
    return rows


def _heard(row: TestRow) -> npt.NDArray[np.float32]:
    assert row.src_sound is not None
    return load_sound(row.src_sound, "", row.id)


def _snr(speech: npt.NDArray[np.float32], made: npt.NDArray[np.float32]) -> float:
    """dB between speech and what was added to it."""
    clean, both = speech.astype(np.float64), made.astype(np.float64)
    return float(10 * np.log10(np.mean(clean**2) / np.mean((both - clean) ** 2)))


def _tones(sound: npt.NDArray[np.floating]) -> set[int]:
    """Which rows' tones are heard in a sound."""
    power = np.abs(np.fft.rfft(sound)) ** 2
    hertz = np.fft.rfftfreq(len(sound), 1 / SAMPLE_RATE)
    return {i for i, tone in enumerate(HERTZ) if power[np.abs(hertz - tone) < 20].sum() > 0.01 * power.sum()}


@pytest.mark.parametrize("kind", ["white", "pink", "brown", "babble", "hum"])
def test_the_snr_of_speech_is_the_one_asked_for(kind: str, tmp_path: Path) -> None:
    """Of real sentences, read out, as loud as they come, very soft, and at full scale."""
    samples, rate = speak_afresh("The weather is very nice today.", "en-us")
    speech = load_sound(Sound(content=_wav(samples, rate, tmp_path)), "", "speech")
    hum = np.random.default_rng(0).uniform(-1, 1, 3000).cumsum() * 1e-3
    (tmp_path / "hum").mkdir()
    soundfile.write(tmp_path / "hum" / "a.flac", hum, 8000)
    rows = _rows(tmp_path)
    maker = NoiseMaker(Noise(kinds=[kind], folder=str(tmp_path)), rows)
    for snr in SNRS:
        for gain in (1.0, 1e-4, 1 / float(np.max(np.abs(speech)))):
            loud = np.asarray(speech * gain, np.float32)
            made = maker.noisy(rows[0], Condition(kind, snr), loud)
            assert made.dtype == np.float32 and len(made) == len(loud)
            assert np.max(np.abs(made)) <= 1  # nothing to clip
            added = maker.noise(rows[0], kind, len(loud))
            assert _snr_within(loud, added, made) == pytest.approx(snr, abs=0.01)
            if gain == 1e-4:
                assert _snr(loud, made) == pytest.approx(snr, abs=0.01)


@settings(deadline=None, max_examples=60)
@given(
    st.integers(0, 2**32 - 1),
    st.integers(200, 6000),
    st.floats(-4, 0),
    st.floats(-20, 10),
    st.sampled_from(["white", "pink", "brown"]),
)
def test_the_snr_of_any_speech(seed: int, length: int, power_of_ten: float, snr: float, kind: str) -> None:
    random = np.random.default_rng(seed)
    speech = np.asarray(random.uniform(-1, 1, length) * 10**power_of_ten, np.float32)
    row = TestRow("a", "fra", "eng", src_sound=Sound("a.wav"))
    maker = NoiseMaker(Noise(kinds=[kind], seed=seed), [row])
    made, added = maker.noisy(row, Condition(kind, snr), speech), maker.noise(row, kind, length)
    assert _snr_within(speech, added, made) == pytest.approx(snr, abs=0.01) and np.max(np.abs(made)) <= 1


@pytest.mark.slow
@pytest.mark.speech
def test_the_snr_of_peoples_speech(tmp_path: Path) -> None:
    """In the files that are written for systems elsewhere."""
    from seamlessalign.pipelines.demo_sources import fetch_prompts
    from seamlessalign.training.evaluation.config import EvaluationConfig
    from seamlessalign.training.evaluation.robustness.noisy_set import write_noisy_set

    try:
        prompts = fetch_prompts(Path(os.environ.get("SEAMLESSALIGN_DEMO_CACHE", tmp_path))).prompts
    except SeamlessAlignError as error:
        pytest.skip(f"the prompts cannot be fetched: {error}")
    keys = sorted(prompts["fra"].keys() & prompts["ita"].keys())[:4]
    rows = [
        {"id": f"{lang}-{key}", "src_lang": lang, "tgt_lang": "eng", "reference": key, "speaker": lang}
        | {"src_audio": str(prompts[lang][key].audio)}
        for lang in ("fra", "ita")
        for key in keys
    ]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    asked = {"output": "", "rows": {"path": str(tmp_path / "rows.jsonl")}, "noise": {"kinds": ["pink", "babble"]}}
    written = write_noisy_set(EvaluationConfig.model_validate(asked), str(tmp_path / "noisy"))
    assert (len(written.folders), written.set_aside) == (2 * len(SNRS), [])
    read = read_test_rows(str(tmp_path / "rows.jsonl"))
    maker, off = NoiseMaker(Noise(kinds=["pink", "babble"]), read), []
    for condition in maker.conditions():
        for number, row in enumerate(read):
            file = written.folders[str(condition)] / f"speech/{number:08}.wav"
            made, clean = soundfile.read(file, dtype="float64")[0], _heard(row)
            off.append(_snr_within(clean, maker.noise(row, condition.kind, len(clean)), made) - condition.snr)
            assert np.max(np.abs(made)) <= 1
    assert len(off) == 2 * len(SNRS) * 8 and np.max(np.abs(off)) < 0.01


def _snr_within(
    speech: npt.NDArray[np.float32], noise: npt.NDArray[np.float64], made: npt.NDArray[np.floating]
) -> float:
    """dB between speech and noise in what is made of both, in whatever shares: they are found by least squares."""
    sides = np.stack([speech.astype(np.float64), noise], 1)
    shares = np.linalg.lstsq(sides, made.astype(np.float64), rcond=None)[0]
    np.testing.assert_allclose(made, sides @ shares, atol=1e-6)  # and of nothing else
    powers = np.mean((sides * shares) ** 2, axis=0)
    return float(10 * np.log10(powers[0] / powers[1]))


def _wav(samples: npt.NDArray[np.floating], rate: int, folder: Path) -> bytes:
    soundfile.write(folder / "speech.wav", samples, rate)
    return (folder / "speech.wav").read_bytes()


def test_what_is_beyond_full_scale_is_softer_as_a_whole(tmp_path: Path) -> None:
    rows = _rows(tmp_path)
    speech = np.asarray(np.sin(np.arange(SAMPLE_RATE) / 9), np.float32)
    made = NoiseMaker(Noise(kinds=["white"]), rows).noisy(rows[0], Condition("white", -20), speech)
    assert np.max(np.abs(made)) == pytest.approx(1, abs=1e-6)
    assert np.dot(made, speech) / np.dot(speech, speech) < 0.05


@settings(deadline=None, max_examples=15)
@given(st.permutations(range(8)), st.integers(0, 7), st.sampled_from(["pink", "babble"]), st.integers(0, 3))
def test_noise_follows_from_id_and_seed_alone(
    tmp_path_factory: pytest.TempPathFactory, order: list[int], which: int, kind: str, seed: int
) -> None:
    rows = _rows(tmp_path_factory.mktemp("rows"))
    asked = Noise(kinds=[kind], seed=seed)
    first = NoiseMaker(asked, rows).noise(rows[which], kind, 5000)
    others = NoiseMaker(asked, [rows[i] for i in order])
    for i in order:  # whatever was made before
        again = others.noise(rows[i], kind, 5000)
        assert (i == which) == np.array_equal(first, again)
    other_seed = NoiseMaker(Noise(kinds=[kind], seed=seed + 1), rows).noise(rows[which], kind, 5000)
    assert not np.array_equal(first, other_seed)


def test_babble_is_of_other_speakers_and_words(tmp_path: Path) -> None:
    rows = _rows(tmp_path)
    twin = TestRow("twin", "fra", "eng", rows[4].references, src_sound=rows[4].src_sound, speaker="z")
    grouped = TestRow("grouped", "fra", "eng", ("other",), src_sound=rows[5].src_sound, speaker="y", group="g")
    asks = TestRow("asks", "fra", "eng", rows[4].references, src_sound=rows[6].src_sound, speaker="d", group="g")
    maker = NoiseMaker(Noise(kinds=["babble"], voices=20), [*rows[:5], twin, grouped, asks])
    for row, heard in (
        (rows[0], {2, 3, 4, 5, 6}),  # not itself, not 1, which is spoken by the same
        (rows[4], {0, 1, 2, 3, 5}),  # not twin and asks, which say the same
        (asks, {0, 1, 2, 3}),  # not 4, whose words it has, and not 5, whose group it is in
    ):
        assert _tones(maker.noise(row, "babble", 2 * SAMPLE_RATE)) == heard
    nameless = [TestRow(row.id, "fra", "eng", src_sound=row.src_sound) for row in rows]
    maker = NoiseMaker(Noise(kinds=["babble"], voices=20), nameless)
    for i, row in enumerate(nameless):  # all but itself
        assert _tones(maker.noise(row, "babble", 2 * SAMPLE_RATE)) == set(range(8)) - {i}
    few = NoiseMaker(Noise(kinds=["babble"], voices=2), rows)
    drawn = [_tones(few.noise(row, "babble", SAMPLE_RATE)) for row in rows]
    assert {len(tones) for tones in drawn} == {2}
    assert len({frozenset(tones) for tones in drawn}) > 2


def test_voices_that_babble_are_as_loud_as_each_other(tmp_path: Path) -> None:
    rows = _rows(tmp_path)
    babble = NoiseMaker(Noise(kinds=["babble"], voices=6), rows).noise(rows[0], "babble", 3 * SAMPLE_RATE)
    power = np.abs(np.fft.rfft(babble)) ** 2
    hertz = np.fft.rfftfreq(len(babble), 1 / SAMPLE_RATE)
    each = [power[np.abs(hertz - tone) < 60].sum() for tone in HERTZ[2:]]
    assert max(each) < 1.3 * min(each)


def test_no_babble_and_no_speech(tmp_path: Path) -> None:
    rows = _rows(tmp_path, "aaaaaaaa")
    with pytest.raises(UnreadableError, match=r"no_babble: row r0: no other row has another speaker's speech"):
        NoiseMaker(Noise(kinds=["babble"]), rows).noisy(rows[0], Condition("babble", 0), _heard(rows[0]))
    with pytest.raises(UnreadableError, match=r"silent: row r0: holds 99 zeros, and has no SNR"):
        NoiseMaker(Noise(), rows).noisy(rows[0], Condition("pink", 0), np.zeros(99, np.float32))
    with pytest.raises(InputError, match="the rows have no speech"):
        NoiseMaker(Noise(), [TestRow("a", "fra", "eng", ("x",))])


@pytest.mark.parametrize(("colour", "octave_db"), [(0.0, 3.01), (1.0, 0.0), (2.0, -3.01)])
def test_the_colour_of_noise(colour: float, octave_db: float) -> None:
    """Of white noise an octave has twice the power of the one below, of pink as much, of brown half."""
    noise = coloured_noise(30 * SAMPLE_RATE, colour, np.random.default_rng(0))
    power = np.abs(np.fft.rfft(noise)) ** 2
    hertz = np.fft.rfftfreq(len(noise), 1 / SAMPLE_RATE)
    octaves = [power[(hertz >= low) & (hertz < 2 * low)].sum() for low in (250, 500, 1000, 2000)]
    assert 10 * np.log10(np.array(octaves[1:]) / octaves[:-1]) == pytest.approx([octave_db] * 3, abs=0.3)
    assert power[hertz < LOWEST_HERTZ].max() < 1e-12 * power.max()


class TestFolder:
    def test_musans_layout(self, tmp_path: Path) -> None:
        rows = _rows(tmp_path)
        with pytest.raises(InputError, match=r"has none of noise, music: give noise\.kinds"):
            NoiseMaker(Noise(folder=str(tmp_path)), rows)
        for kind, hertz in (("noise", 3000), ("music", 5000), ("speech", 6000)):
            place = tmp_path / kind / "free-sound"
            place.mkdir(parents=True)
            soundfile.write(place / f"{kind}-0.wav", np.sin(2 * np.pi * hertz * np.arange(9000) / 16000) / 3, 16000)
        maker = NoiseMaker(Noise(folder=str(tmp_path), snrs=[5, 0]), rows)
        assert [str(one) for one in maker.conditions()] == ["noise:5", "noise:0", "music:5", "music:0"]
        for kind, hertz in (("noise", 3000), ("music", 5000)):
            found = maker.noise(rows[0], kind, 20_000)  # longer than the recording
            power = np.abs(np.fft.rfft(found)) ** 2
            assert power[np.abs(np.fft.rfftfreq(20_000, 1 / 16000) - hertz) < 30].sum() > 0.9 * power.sum()

    def test_files_that_cannot_be_read_are_told(self, tmp_path: Path) -> None:
        rows = _rows(tmp_path)
        folder, kept = tmp_path / "noise", str(tmp_path / "kept.json")
        folder.mkdir()
        asked = Noise(folder=str(tmp_path), kinds=["noise"])
        with pytest.raises(InputError, match=r"noise\.folder: .* holds no sound files"):
            NoiseMaker(asked, rows)
        (folder / "a.wav").write_bytes(b"no sound")
        with pytest.raises(InputError, match=r"of 1 sound files in .* none can be read"):
            NoiseMaker(asked, rows)
        random = np.random.default_rng(0)
        for name in "bc":
            soundfile.write(folder / f"{name}.flac", random.uniform(-1, 1, 200_000), 16000)
        whole = (folder / "c.flac").read_bytes()
        (folder / "c.flac").write_bytes(whole[:9000] + bytes(len(whole) - 9000))  # its header is whole
        maker = NoiseMaker(asked, rows, kept)
        assert sorted(maker.unreadable) == [str(folder / "a.wav")]
        for row in rows:
            assert np.any(maker.noise(row, "noise", 100_000))
        assert sorted(maker.unreadable) == [str(folder / "a.wav"), str(folder / "c.flac")]
        assert NoiseMaker(asked, rows, kept).unreadable == maker.unreadable  # whoever goes on knows

    def test_silence_is_drawn_again(self, tmp_path: Path) -> None:
        rows = _rows(tmp_path)
        (tmp_path / "noise").mkdir()
        for name in "ab":
            soundfile.write(tmp_path / "noise" / f"{name}.wav", np.zeros(99_000), 16000)
        asked = Noise(folder=str(tmp_path), kinds=["noise"])
        with pytest.raises(UnreadableError, match="no_noise: row r0: 50 stretches of noise are silent"):
            NoiseMaker(asked, rows).noise(rows[0], "noise", 100)
        soundfile.write(tmp_path / "noise" / "b.wav", np.sin(np.arange(9000)), 16000)
        assert all(np.any(NoiseMaker(asked, rows).noise(row, "noise", 100)) for row in rows)


def test_signatures_name_all_settings(tmp_path: Path) -> None:
    rows = _rows(tmp_path)
    (tmp_path / "noise").mkdir()
    soundfile.write(tmp_path / "noise" / "b.wav", np.sin(np.arange(9000)), 16000)
    told = set()
    for asked in (
        Noise(kinds=["babble"]),
        Noise(kinds=["babble"], voices=3),
        Noise(kinds=["babble"], seed=1),
        Noise(kinds=["pink"]),
        Noise(kinds=["noise"], folder=str(tmp_path)),
    ):
        maker = NoiseMaker(asked, rows)
        told |= {maker.signature(condition) for condition in maker.conditions()}
    assert len(told) == 5 * len(SNRS)
    assert "noise:babble-6|snr:-20|noise_seed:0" in told
    soundfile.write(tmp_path / "noise" / "c.wav", np.sin(np.arange(9000)), 16000)
    more = NoiseMaker(asked, rows)
    assert not told & {more.signature(condition) for condition in more.conditions()}


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"snrs": [300]}, "an SNR of 300 dB is beyond 100 dB"),
        ({"snrs": [5, 5.0]}, "an SNR is there twice"),
        ({"snrs": []}, "at least 1"),
        ({"kinds": ["pink", "pink"]}, "a kind of noise is there twice"),
        ({"kinds": ["cafe"]}, "'cafe' is none of white, pink, brown, babble: give noise.folder"),
        ({"kinds": ["../noise"], "folder": "x"}, "names no kind of noise"),
    ],
)
def test_settings_that_make_no_sense(given: dict[str, object], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        Noise.model_validate(given)
