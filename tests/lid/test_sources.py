"""Clips from every kind of source, and crops that follow from the seed alone."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from seamlessalign.errors import ConfigError, InputError
from seamlessalign.lid.sources import Clip, Crops, read_clips, split_clips, trimmed
from seamlessalign.lid.training_config import LidAugment, LidData, LidSource, LidTrainingConfig, load_lid_config
from seamlessalign.rows import SAMPLE_RATE
from seamlessalign.speech_sources import Sound
from seamlessalign.typed_config import checked
from tests.lid.spoken_world import LANGUAGES, make_languages, sing


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("world")
    make_languages(root / "speech", clips=6)
    return root


def _data(*sources: LidSource, **keys: object) -> LidData:
    return LidData(train=list(sources), **keys)  # type: ignore[arg-type]


def _folder(world: Path, **keys: object) -> LidSource:
    return LidSource(kind="folder", path=str(world / "speech"), **keys)  # type: ignore[arg-type]


class TestReading:
    def test_a_folder_and_parquet_hold_the_same(self, world: Path, tmp_path: Path) -> None:
        folder = read_clips([_folder(world)], _data(_folder(world)))
        rows = [line.split("\t") for line in (world / "speech" / "clips.tsv").read_text().splitlines()[1:]]
        table = pa.table(
            {
                "audio": [{"bytes": (world / "speech" / path).read_bytes(), "path": path} for path, _, _ in rows],
                "lang": [lang for _, lang, _ in rows],
                "speaker": [speaker for _, _, speaker in rows],
            }
        )
        pq.write_table(table, tmp_path / "a.parquet", row_group_size=5)
        source = LidSource(kind="parquet", path=str(tmp_path))
        parquet = read_clips([source], _data(source))
        assert [(c.key, c.lang, c.group, c.seconds) for c in parquet] == [
            (c.key, c.lang, c.group, c.seconds) for c in folder
        ]
        ours, theirs = (Crops(clips, [1.0], _data(_folder(world)), None, 0) for clips in (folder, parquet))
        np.testing.assert_array_equal(ours.crop(3, 1)[0], theirs.crop(3, 1)[0])

    def test_what_cannot_be_used_is_counted(self, world: Path, tmp_path: Path) -> None:
        files = sorted((world / "speech").glob("*.flac"))
        (tmp_path / "empty.flac").write_bytes(b"")
        (tmp_path / "text.flac").write_text("no sound")
        rows = [f"{files[0]}\teng", f"{files[1]}\ten", "gone.flac\teng", "empty.flac\teng", "text.flac\tfra"]
        (tmp_path / "c.tsv").write_text("\n".join(["path\tlang", *rows]) + "\n")
        source, rejects = LidSource(kind="folder", path=str(tmp_path)), Counter[str]()
        assert len(read_clips([source], _data(source), rejects)) == 1
        assert rejects == {"unknown_language": 1, "missing": 1, "empty": 1, "not_audio": 1}
        wanted = LidSource(kind="folder", path=str(tmp_path), languages=["rus"])
        with pytest.raises(InputError, match="nothing to learn from"):
            read_clips([wanted], _data(wanted))

    def test_a_missing_column_is_named(self, tmp_path: Path) -> None:
        (tmp_path / "c.tsv").write_text("file\tlanguage\nx\ty\n")
        source = LidSource(kind="folder", path=str(tmp_path))
        with pytest.raises(InputError, match=r"lacks the columns path, lang \(or give the source's lang\)"):
            read_clips([source], _data(source))

    def test_texts_are_read_out_in_every_language_there_is(self, tmp_path: Path) -> None:
        pytest.importorskip("espeakng_loader", reason="needs espeakng-loader of the extra 'train'")
        lines = [{"eng": f"good morning {i}", "fra": f"bonjour {i}", "xxx": "?", "deu": ""} for i in range(3)]
        (tmp_path / "t.jsonl").write_text("\n".join(json.dumps(line) for line in lines) + "\n")
        source = LidSource(
            kind="espeak", path=str(tmp_path / "t.jsonl"), variants=["f2", "m3"], words_per_minute=[150, 180],
            max_items=2, voices={"eng": ["en-us"]},
        )  # fmt: skip
        rejects = Counter[str]()
        clips = read_clips([source], _data(source, min_seconds=0.1), rejects)
        spoken = [(clip.lang, clip.sound.voice, clip.sound.words_per_minute) for clip in clips]
        assert spoken == [
            ("eng", "en-us+f2", 150), ("fra", "fr+f2", 150), ("eng", "en-us+m3", 150), ("fra", "fr+m3", 150),
        ]  # fmt: skip
        assert rejects == {"empty_text": 2}
        crops = Crops(clips, [1.0], _data(source, crop_seconds=2.0), None, 0)
        assert float(np.std(crops.crop(0, 0)[0])) > 0.01

    def test_a_voice_that_is_not_there_is_told_at_once(self, tmp_path: Path) -> None:
        pytest.importorskip("espeakng_loader", reason="needs espeakng-loader of the extra 'train'")
        (tmp_path / "t.txt").write_text("hello\n")
        source = LidSource(kind="espeak", path=str(tmp_path / "t.txt"), lang="eng", voices={"eng": ["none-such"]})
        with pytest.raises(InputError, match="none-such"):
            read_clips([source], _data(source))


def _clip(lang: str, group: str, number: int) -> Clip:
    return Clip(f"{number:032x}", "", lang, group, "", 1.0, Sound(), 0)


class TestSplitting:
    def test_speakers_are_on_one_side_only(self) -> None:
        clips = [_clip(lang, f"{lang}-{i % 50}", i) for lang in ("eng", "fra") for i in range(200)]
        learnt, held = split_clips(clips, 0.3)
        assert len(learnt) + len(held) == 400
        assert not {clip.group for clip in learnt} & {clip.group for clip in held}
        for lang in ("eng", "fra"):
            assert 0.1 < sum(clip.lang == lang for clip in held) / 200 < 0.6

    @pytest.mark.parametrize("share", [0.001, 0.999])
    def test_a_language_of_two_has_one_of_each(self, share: float) -> None:
        learnt, held = split_clips([_clip("eng", "", 1), _clip("eng", "", 2)], share)
        assert len(learnt) == len(held) == 1

    def test_a_single_clip_is_learnt(self) -> None:
        learnt, held = split_clips([_clip("eng", "", 1)], 0.5)
        assert len(learnt) == 1 and not held


class TestCrops:
    def test_each_follows_from_the_seed_the_step_and_the_place(self, world: Path) -> None:
        source = _folder(world)
        data = _data(source, crop_seconds=2.0, min_crop_seconds=1.0)
        augment = LidAugment(speed=0.1, reverb=0.5, noise=0.5, colour=0.5, gain_db=6)
        made = [Crops(read_clips([source], data), [1.0], data, augment, seed) for seed in (0, 0, 1)]
        for step in range(3):
            length = int(made[0].seconds(step) * SAMPLE_RATE)
            assert SAMPLE_RATE <= length <= 2 * SAMPLE_RATE
            for place in (3, 0, 1):
                first, lang = made[0].crop(step, place)
                again, other = made[1].crop(step, place)
                assert lang == other and len(first) == length
                np.testing.assert_array_equal(first, again)
                assert np.isfinite(first).all() and float(np.std(first)) > 0.001
                assert not np.array_equal(first, made[0].crop(step, place + 1)[0])
        assert not np.array_equal(made[0].held_out(0, 0, 1.5), made[2].held_out(0, 0, 1.5))

    def test_they_are_of_the_language_they_say(self, world: Path) -> None:
        source = _folder(world)
        crops = Crops(read_clips([source], _data(source)), [1.0], _data(source, crop_seconds=2.0), None, 0)
        for place in range(12):
            samples, number = crops.crop(0, place)
            spectrum = np.abs(np.fft.rfft(samples))
            hertz = np.fft.rfftfreq(len(samples), 1 / SAMPLE_RATE)
            power = {
                lang: float(np.sum(spectrum[(hertz > 0.85 * low) & (hertz < 1.15 * low)] ** 2))
                for lang, (low, _) in LANGUAGES.items()
            }
            assert max(power, key=lambda lang: power[lang]) == crops.languages[number]

    @pytest.mark.parametrize(("balance", "share"), [(0.0, 0.5), (1.0, 0.9)])
    def test_languages_are_balanced(self, balance: float, share: float) -> None:
        clips = [_clip("eng", "", i) for i in range(90)] + [_clip("fra", "", i) for i in range(10)]
        crops = Crops(clips, [1.0], _data(LidSource(kind="folder", path="x"), balance=balance), None, 0)
        crops._make = lambda *_: np.zeros(1, np.float32)  # type: ignore[method-assign]  # only the choice is looked at
        drawn = [crops.crop(step, 0)[1] for step in range(600)]
        assert np.mean(np.array(drawn) == 0) == pytest.approx(share, abs=0.06)

    def test_silence_around_speech_is_left_out(self) -> None:
        sound = sing("eng", 1.0, 0)
        padded = np.concatenate([np.zeros(8000, np.float32), sound, np.zeros(12_000, np.float32)])
        assert len(trimmed(padded)) == pytest.approx(len(sound) + 0.1 * SAMPLE_RATE, abs=0.05 * SAMPLE_RATE)
        assert len(trimmed(np.zeros(100, np.float32))) == 100


class TestConfiguration:
    @pytest.mark.parametrize(
        ("change", "said"),
        [
            ({"model": {"channels": [8, 8, 16]}}, "equally many"),
            ({"model": {"kernel_sizes": [5, 4, 3, 3, 1]}}, "odd"),
            ({"model": {"channels": [20, 20, 20, 20, 60]}}, "cannot be cut"),
            ({"data": {"train": [{"kind": "folder", "path": "x", "voices": {"eng": ["en"]}}]}}, "kind 'espeak' only"),
            ({"data": {"train": [{"kind": "espeak", "path": "x.txt"}]}}, "needs lang"),
            ({"data": {"train": []}}, "at least 1"),
            ({"calibration": {"rule": "precision"}}, "precision goes with"),
            ({"augment": {"min_snr_db": 20}}, "is above max_snr_db"),
            ({"optimiser": {"steps": 5, "lr": 1e-5}}, "is above lr"),
            ({"optimizer": {}}, "did you mean 'optimiser'"),
        ],
    )
    def test_what_cannot_be_is_told_in_one_line(self, change: dict[str, object], said: str) -> None:
        plain = {
            "output": "x",
            "data": {"train": [{"kind": "folder", "path": "x"}]},
            "optimiser": {"steps": 5},
        }
        checked(LidTrainingConfig, plain, "c.yaml")
        with pytest.raises(ConfigError, match=said) as caught:
            checked(LidTrainingConfig, plain | change, "c.yaml")
        assert str(caught.value).startswith("c.yaml: ") and "\n" not in str(caught.value)

    def test_paths_are_beside_the_file(self, tmp_path: Path) -> None:
        file = tmp_path / "c.yaml"
        file.write_text("output: o\ndata: {train: [{kind: folder, path: speech}]}\noptimiser: {steps: 5}\n")
        config = load_lid_config(str(file), ["optimiser.steps=7"])
        assert config.data.train[0].path == str(tmp_path / "speech") and config.optimiser.steps == 7
        assert config.output == "o"

    def test_the_recipe_can_be_read(self) -> None:
        config = load_lid_config(str(Path(__file__).parents[2] / "lid" / "recipe.yaml"))
        assert len(config.data.train) == 2 and config.data.train[1].kind == "espeak" and config.optimiser.steps > 0
