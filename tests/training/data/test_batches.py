"""Batches from rows on disk: the same rows in the same batches for any number of processes, read a few times each."""

import json
import pickle
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from seamlessalign.embedders.sonar.features import features
from seamlessalign.errors import InputError
from seamlessalign.rows import SAMPLE_RATE
from seamlessalign.speech_sources import Sound, load_sound
from seamlessalign.training.data.batches import UnityBatches
from seamlessalign.training.data.epochs import plan_epoch
from seamlessalign.training.data.examples import Task
from seamlessalign.training.data.prepared import PreparedData, prepare_data
from seamlessalign.training.data.sources import reduced
from seamlessalign.training.data.table_sources import ParquetRows
from seamlessalign.training_loading import load
from seamlessalign.training_settings import TrainingResources
from tests.ground.sounds import noise
from tests.training.data.data_world import (
    corpus_row,
    data_of,
    sentence,
    units_of,
    vocabularies,
    write_corpus,
    write_lines,
    write_units,
)

COUNT = 40
SMALL: dict[str, Any] = {"max_frames": 240, "max_tokens": 400, "max_rows": 8}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    rows = [corpus_row(i) for i in range(COUNT)]
    write_units(folder, rows)
    return write_corpus(folder, rows, files=2, group=4)


def _prepared(run: Path, rank: int = 0, world: int = 1, folder: Path | None = None, **keys: Any) -> PreparedData:
    text, units = vocabularies()
    given: dict[str, Any] = {"batches": SMALL, "validation_share": 0.1} | keys
    data = data_of({"kind": "corpus", "path": str(run)}, **given)
    return prepare_data(data, text, units, 3, folder, rank, world)


def _rows(batches: UnityBatches, epoch: int = 0) -> list[list[tuple[str, Task]]]:
    """Key and task of each row of each batch."""
    found = []
    for place in range(batches.num_batches(epoch)):
        batch = batches[epoch, place]
        found.append([] if batch is None else list(zip(batch.keys, batch.tasks, strict=True)))
    return found


def _content(batches: UnityBatches, epoch: int) -> list[list[tuple[Any, ...]]]:
    """All that each row of each batch holds, without padding."""
    found = []
    for place in range(batches.num_batches(epoch)):
        batch, rows = batches[epoch, place], []
        for at in range(0 if batch is None else len(batch)):
            assert batch is not None and batch.features is not None and batch.feature_mask is not None
            assert batch.src_tokens is not None
            heard = batch.features[at, : int(batch.feature_mask[at].sum())].numpy().tobytes()
            tokens = [tuple(_unpadded(part[at], 0)) for part in (batch.src_tokens, batch.tgt_tokens)]
            rows.append((batch.keys[at], batch.tasks[at], heard, *tokens))
        found.append(rows)
    return found


class TestContent:
    def test_every_row_is_what_the_corpus_holds(self, run: Path) -> None:
        """Each row of each batch against the row that it was made of, by the slow way."""
        made = _prepared(run, tasks=["asr", "s2tt", "t2tt", "t2st", "t2u"])
        wanted = {(row := corpus_row(i))["pair_id"]: (i, row) for i in range(COUNT)}
        text, units = vocabularies()
        seen: Counter[tuple[str, str, str]] = Counter()
        for batches in (made.train, made.validation):
            for place in range(batches.num_batches(0)):
                batch = batches[0, place]
                assert batch is not None and not batch.rejects
                for at, (key, task) in enumerate(zip(batch.keys, batch.tasks, strict=True)):
                    number, row = wanted[key]
                    src, tgt = batch.src_langs[at], batch.tgt_langs[at]
                    seen[key, task, f"{src}-{tgt}"] += 1
                    texts = {"eng": row["src_text"], "fra": row["tgt_text"]}
                    assert _unpadded(batch.tgt_tokens[at], 0) == text.target(texts[tgt], tgt)
                    assert batch.src_tokens is not None
                    assert _unpadded(batch.src_tokens[at], 0) == text.source(texts[src], src)
                    if task in ("asr", "s2tt"):
                        assert batch.features is not None and batch.feature_mask is not None
                        samples = load_sound(Sound(content=row["tgt_audio"]["bytes"]), "", "x")
                        count = int(batch.feature_mask[at].sum())
                        assert torch.equal(batch.features[at, :count], features(torch.from_numpy(samples)))
                    else:
                        assert batch.features is None
                    if task == "t2st":
                        assert batch.unit_tokens is not None
                        given = reduced(units_of(number)).tolist()
                        assert _unpadded(batch.unit_tokens[at], 1) == units.target(given, "fra")
        # English has no sound and no units: what each row can be learnt for, once
        offers = [("asr", "fra-fra"), ("s2tt", "fra-eng"), ("t2tt", "eng-fra"), ("t2tt", "fra-eng")]
        offers += [("t2st", "eng-fra"), ("t2st", "fra-fra")]
        assert seen == Counter({(key, *offer): 1 for key in wanted for offer in offers})
        assert not made.set_aside

    def test_an_account_is_kept_of_each_source(self, run: Path, tmp_path: Path) -> None:
        text, units = vocabularies()
        lines = [{"eng": "the cat sat", "fra": "le chat"}] * 5 + [{"eng": "a", "fra": "le chat dort"}, {"eng": "x"}]
        path = write_lines(tmp_path / "t.jsonl", lines)
        sources: list[dict[str, Any]] = [
            {"kind": "corpus", "path": str(run)},
            {"kind": "text", "path": str(path), "pairs": [["eng", "fra"]], "both_ways": False, "weight": 8},
        ]
        limits = {"max_chars_ratio": 6}
        data = data_of(*sources, tasks=["t2tt"], limits=limits, validation=[sources[0]], batches=SMALL)
        made = prepare_data(data, text, units, 0, tmp_path / "rows")
        account = json.loads((tmp_path / "rows" / "account.json").read_text())
        pairs = [(len(row["src_text"]), len(row["tgt_text"])) for row in map(corpus_row, range(COUNT))]
        unlike = sum(max(pair) > 6 * min(pair) for pair in pairs)
        of_corpus = {"unlike_lengths": 2 * unlike} if unlike else {}
        assert account["set_aside"] == {
            "train.0 (corpus)": of_corpus,
            "train.1 (text)": {"no_target_text": 1, "unlike_lengths": 1},
            "validation.0 (corpus)": of_corpus,
        }
        there = {name: one["there"] for name, one in account["items"].items()}
        wanted = dict.fromkeys(["0. corpus: t2tt eng-fra", "0. corpus: t2tt fra-eng"], COUNT - unlike)
        assert there == wanted | {"1. text: t2tt eng-fra": 5}
        assert account["items"]["1. text: t2tt eng-fra"]["in_an_epoch"] == round(40 / (2 * (COUNT - unlike) + 40) * 85)
        assert made.set_aside == sum(made.by_source.values(), Counter())

    def test_speech_into_speech(self, tmp_path: Path) -> None:
        """Source speech, and text and units of the target; the source's text is not there."""
        text, units = vocabularies()
        lines = []
        for i in range(6):
            soundfile.write(tmp_path / f"{i}.wav", noise(5000 + 500 * i, seed=i)[:, 0], SAMPLE_RATE)
            source = {"lang": "fra", "text": None, "audio_local_path": f"{i}.wav"}
            lines.append({"source": source, "target": {"lang": "eng", "text": sentence(i), "units": units_of(i)}})
        manifest = {"kind": "manifest", "path": str(write_lines(tmp_path / "m.json", lines))}
        made = prepare_data(data_of(manifest, tasks=["s2st"], validation=[manifest]), text, units, 0)
        batch = made.train[0, 0]
        assert batch is not None and batch.tasks == ["s2st"] * 6 and made.train.num_batches(0) == 1
        assert batch.src_tokens is None and batch.features is not None and batch.unit_tokens is not None
        for row, tokens in enumerate(batch.tgt_tokens):
            i = next(i for i in range(6) if _unpadded(tokens, 0) == text.target(sentence(i), "eng"))
            given = units.target(reduced(units_of(i)), "eng")
            assert _unpadded(batch.unit_tokens[row], 1) == given
            samples, _ = soundfile.read(tmp_path / f"{i}.wav", dtype="float32")
            wanted = features(torch.from_numpy(samples))
            assert torch.equal(batch.features[row, : len(wanted)], wanted)
        assert made.validation[0, 0] is not None

    def test_a_text_that_is_held_out_is_never_learnt(self, run: Path) -> None:
        made = _prepared(run, tasks=["asr", "s2tt", "t2tt"], validation_share=0.3)
        learnt, held = ({key for b in _rows(part) for key, _ in b} for part in (made.train, made.validation))
        assert learnt and held and not learnt & held and len(learnt | held) == COUNT

    def test_nor_is_one_that_other_rows_share(self, tmp_path: Path) -> None:
        """An English text that three French ones mean: where one of these is held out, it may not be learnt."""
        lines = [{"eng": f"the cat {i // 3}", "fra": f"le chat {i}"} for i in range(60)]
        path = write_lines(tmp_path / "t.jsonl", lines)
        source = {"kind": "text", "path": str(path), "pairs": [["eng", "fra"]]}
        text, units = vocabularies()
        made = prepare_data(data_of(source, tasks=["t2tt"], validation_share=0.5), text, units, 0)
        parts = [_said(part) for part in (made.train, made.validation)]
        assert parts[0] and parts[1] and not parts[0] & parts[1]
        aside = made.set_aside["text_also_learnt"]
        assert aside and len(made.train.mixture.items) + len(made.validation.mixture.items) + aside == 120

    def test_sources_of_other_kinds_are_learnt_together(self, run: Path, tmp_path: Path) -> None:
        path = write_lines(tmp_path / "t.jsonl", [{"eng": f"the cat {i}", "fra": f"le chat {i}"} for i in range(9)])
        text, units = vocabularies()
        sources: list[dict[str, Any]] = [
            {"kind": "corpus", "path": str(run)},
            {"kind": "text", "path": str(path), "pairs": [["eng", "fra"]]},
            {"kind": "espeak", "path": str(path), "pairs": [["fra", "eng"]], "max_rows": 3},
        ]
        data = data_of(*sources, tasks=["s2tt", "t2tt"], batches=SMALL, validation_share=0.1)
        made = prepare_data(data, text, units, 0)
        tasks = Counter(task for batch in _rows(made.train) + _rows(made.validation) for _, task in batch)
        assert tasks == {"s2tt": COUNT + 2 * 3, "t2tt": 2 * (COUNT + 9 + 3)}
        # texts without sound offer no speech: but they serve another task, so that nothing is set aside for it
        assert set(made.by_source) == {"train.0 (corpus)", "train.1 (text)", "train.2 (espeak)"}


class TestProcesses:
    @pytest.mark.parametrize("world", [2, 3, 13])
    def test_their_parts_make_up_the_batches_of_one(self, run: Path, world: int, tmp_path: Path) -> None:
        changes = {"speed": 0.1, "noise": 0.5}
        whole = _content(_prepared(run, folder=tmp_path, augment=changes).train, 1)
        parts = [_content(_prepared(run, rank, world, tmp_path, augment=changes).train, 1) for rank in range(world)]
        joined = [[row for part in parts for row in part[place]] for place in range(len(whole))]
        assert joined == whole
        assert world < 13 or all(any(not part[place] for part in parts) for place in range(len(whole)))

    def test_none_where_a_process_has_no_row(self, run: Path) -> None:
        batches = _prepared(run, 12, 13).train
        found = [batches[0, place] for place in range(batches.num_batches(0))]
        assert None in found and any(batch is not None and len(batch) for batch in found)

    def test_a_copy_in_another_process_makes_the_same(self, run: Path, tmp_path: Path) -> None:
        batches = _prepared(run, folder=tmp_path, augment={"speed": 0.1, "noise": 1, "time_masks": 1}).train
        copy = pickle.loads(pickle.dumps(batches))  # noqa: S301
        for where in ((2, 5), (0, 1)):  # any place at once
            ours, theirs = batches[where], copy[where]
            assert ours is not None and theirs is not None and ours.keys == theirs.keys
            assert ours.features is not None and theirs.features is not None
            assert torch.equal(ours.features, theirs.features)

    @pytest.mark.slow
    @pytest.mark.parametrize("workers", [0, 1, 3])
    def test_a_training_that_goes_on_gets_what_is_left_of_the_epoch(
        self, run: Path, tmp_path: Path, workers: int
    ) -> None:
        """From the middle of an epoch into the next, whatever loads them; here of the second of two processes."""
        batches = _prepared(run, 1, 2, tmp_path, augment={"speed": 0.1}).train
        count = batches.num_batches(0)
        places = [(0, place) for place in range(count // 2, count)] + [(1, 0), (1, 1)]
        loaded = load(batches, *places[0], TrainingResources(device="cpu", workers=workers), torch.device("cpu"))
        for where, theirs in zip(places, loaded, strict=False):
            ours = batches[where]
            assert (ours is None) == (theirs is None)
            if ours is not None:
                assert ours.keys == theirs.keys and torch.equal(ours.tgt_tokens, theirs.tgt_tokens)
                assert ours.features is not None and torch.equal(ours.features, theirs.features)


class TestReading:
    def test_each_row_group_is_read_once_an_epoch(self, run: Path) -> None:
        batches = _prepared(run).train
        _rows(batches)
        assert set(batches.reader.opened.reads.values()) == {1}
        assert len(batches.reader.opened.reads) == COUNT // 4

    def test_windows_that_hold_two_groups_do_too(self, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A megabyte is far more than the groups of this corpus have: let them say that they have one third."""
        plain = ParquetRows.groups
        size = 333_000
        monkeypatch.setattr(ParquetRows, "groups", lambda self: (_sized(group, size) for group in plain(self)))
        batches = _prepared(run, batches=SMALL | {"window_mb": 1}).train
        plan = batches.plan(0)
        assert len(set(plan.windows.tolist())) == 4  # of ten groups, three in a window
        _rows(batches)
        assert set(batches.reader.opened.reads.values()) == {1}

    @pytest.mark.parametrize("workers", [1, 3])
    def test_a_worker_reads_no_row_group_twice(self, run: Path, workers: int, tmp_path: Path) -> None:
        """Each process that loads has each of its batches: of a window of several groups, any may be in any batch."""
        reads = Counter[Any]()
        for worker in range(workers):
            batches = _prepared(run, folder=tmp_path, tasks=["t2tt"], batches=SMALL | {"max_rows": 4}).train
            for place in range(worker, batches.num_batches(0), workers):
                assert batches[0, place] is not None
            assert set(batches.reader.opened.reads.values()) == {1}
            reads.update(batches.reader.opened.reads.keys())
        assert len(reads) == COUNT // 4 and max(reads.values()) <= workers

    def test_processes_read_about_their_share(self, run: Path, tmp_path: Path) -> None:
        reads = []
        for rank in range(4):
            batches = _prepared(run, rank, 4, tmp_path, batches=SMALL | {"max_frames": 2000, "max_rows": 24}).train
            _rows(batches)
            reads.append(len(batches.reader.opened.reads))
        assert sum(reads) <= 2 * COUNT // 4 < 4 * COUNT // 4

    def test_sound_is_left_alone_where_only_text_is_learnt(self, run: Path) -> None:
        batches = _prepared(run, tasks=["t2tt"]).train
        _rows(batches)
        assert {sound for _, _, sound in batches.reader.opened.reads} == {False}

    def test_two_plans_are_kept(self, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Loading looks into the next epoch while this one is being learnt."""
        batches = _prepared(run).train
        made: list[int] = []
        plain = plan_epoch

        def counted(*arguments: Any) -> Any:
            made.append(arguments[-1])
            return plain(*arguments)

        monkeypatch.setattr("seamlessalign.training.data.batches.plan_epoch", counted)
        for epoch in (0, 1, 0, 1, 1, 0, 2, 1, 2, 0):
            batches.num_batches(epoch)
        assert made == [0, 1, 2, 0]


class TestRejects:
    def test_rows_that_went_bad_are_told_and_the_others_learnt(self, tmp_path: Path) -> None:
        rows = [corpus_row(i) for i in range(12)]
        write_corpus(tmp_path, rows, files=1, group=4)
        made = _prepared(tmp_path, folder=tmp_path / "index", validation_share=0.2)
        (file,) = (tmp_path / "corpus").rglob("*.parquet")
        learnt = [key for batch in _rows(made.train) for key, _ in batch]
        bad = dict.fromkeys(learnt)
        numbers = [i for i, row in enumerate(rows) if row["pair_id"] in bad][:4]
        silent, broken, longer, lost = (rows[i] for i in numbers)
        silent["tgt_audio"] = {"bytes": _flac(np.zeros(8000)), "path": None}
        broken["tgt_audio"] = {"bytes": b"no sound", "path": None}
        longer["tgt_audio"] = {"bytes": _flac(np.random.default_rng(0).normal(0, 0.1, 90_000)), "path": None}
        lost["tgt_text"] = None
        place = Path(file)
        write_corpus(tmp_path / "new", rows, files=1, group=4)
        next((tmp_path / "new" / "corpus").rglob("*.parquet")).replace(place)
        batches = pickle.loads(pickle.dumps(made.train))  # noqa: S301  (it has nothing open)
        told: dict[str, str] = {}
        kept: Counter[str] = Counter()
        for at in range(batches.num_batches(0)):
            batch = batches[0, at]
            told |= batch.rejects
            kept.update(batch.keys)
        wanted = dict(
            zip(
                (f"{place} row {i}" for i in numbers),
                ("silent", "not_audio", "longer_than_listed", "changed"),
                strict=True,
            )
        )
        assert told == wanted
        assert kept == Counter(key for key in learnt if key not in {rows[i]["pair_id"] for i in numbers})

    def test_a_file_that_is_gone_is_no_end(self, tmp_path: Path) -> None:
        write_corpus(tmp_path, [corpus_row(i) for i in range(12)], files=1, group=4)
        batches = pickle.loads(pickle.dumps(_prepared(tmp_path, validation_share=0.2).train))  # noqa: S301
        (file,) = (tmp_path / "corpus").rglob("*.parquet")
        count = sum(len(part) for part in _rows(batches))
        batches = pickle.loads(pickle.dumps(batches))  # noqa: S301
        file.unlink()
        found = [batches[0, place] for place in range(batches.num_batches(0))]
        assert [len(batch) for batch in found] == [0] * len(found)
        assert Counter(reason for batch in found for reason in batch.rejects.values())["unreadable"] > 0
        assert count > 0


class TestChanges:
    @pytest.mark.parametrize("augment", [{"noise": 1.0, "speed": 0.1}, {"frequency_masks": 1, "time_masks": 1}])
    def test_each_epoch_changes_speech_otherwise(self, run: Path, augment: dict[str, Any]) -> None:
        batches = _prepared(run, augment=augment, tasks=["asr"]).train
        heard = [_by_key(batches, epoch) for epoch in (0, 1, 0)]
        assert heard[0].keys() == heard[1].keys()
        for key, one in heard[0].items():
            assert torch.equal(one, heard[2][key])
            assert one.shape != heard[1][key].shape or not torch.equal(one, heard[1][key])

    def test_no_batch_is_larger_than_it_may_be_at_any_speed(self, run: Path) -> None:
        batches = _prepared(run, augment={"speed": 0.3}, batches=SMALL | {"max_frames": 200}).train
        for epoch in range(3):
            for place in range(batches.num_batches(epoch)):
                batch = batches[epoch, place]
                assert batch is not None and batch.features is not None and not batch.rejects
                assert batch.features.shape[0] * batch.features.shape[1] <= 200


class TestWhatIsWrong:
    @pytest.mark.parametrize(
        ("keys", "message"),
        [
            ({"limits": {"min_seconds": 40}}, "nothing to learn from for asr, s2tt: 80 too_short"),
            ({"tasks": ["s2st"]}, "nothing to learn from for s2st: 40 no_units"),
            ({"tasks": {"asr": {"sources": ["rus"]}}}, "nothing to learn from for asr: 40 not_wanted"),
            ({"choice": {"min_margin": 9}}, "data: nothing is left to learn from"),
            ({"validation_share": 1e-6}, "data: nothing is held out"),
        ],
    )
    def test_it_is_told_in_a_line(self, run: Path, keys: dict[str, Any], message: str) -> None:
        with pytest.raises(InputError, match=message) as caught:
            _prepared(run, **keys)
        assert "\n" not in str(caught.value)


def _said(batches: UnityBatches) -> set[str | None]:
    """The texts on either side."""
    examples = [batches.reader.example(number)[0] for number in range(len(batches.mixture.items))]
    return {text for one in examples for text in (one.src_text, one.tgt_text)}


def _unpadded(tokens: Any, pad: int) -> list[int]:
    return [token for token in tokens.tolist() if token != pad]


def _by_key(batches: UnityBatches, epoch: int) -> dict[str, torch.Tensor]:
    found = {}
    for place in range(batches.num_batches(epoch)):
        batch = batches[epoch, place]
        assert batch is not None and batch.features is not None and batch.feature_mask is not None
        for row, key in enumerate(batch.keys):
            found[key] = batch.features[row, : int(batch.feature_mask[row].sum())]
    return found


def _flac(samples: Any) -> bytes:
    from seamlessalign.audio import encode

    return encode(np.asarray(samples, np.float32), "flac")


def _sized(group: Any, size: int) -> Any:
    from dataclasses import replace

    return replace(group, size=size)
