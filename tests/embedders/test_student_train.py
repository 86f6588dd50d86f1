"""Training: it learns, goes on after being killed as if nothing had happened, and is the same in several processes."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file
from transformers import Wav2Vec2BertConfig, Wav2Vec2BertModel

from seamlessalign.cli import main
from seamlessalign.embedders.card import card_beside
from seamlessalign.embedders.student import Student
from seamlessalign.embedders.student.cache import FrameCache
from seamlessalign.embedders.student.train import Training, train
from seamlessalign.embedders.student.training_config import load_training_config
from seamlessalign.errors import ConfigError, InputError
from tests.embedders.student_world import make_speech, make_teacher, parsed, plain_config, say
from tests.ground.tiny_whisper import save_directory, tiny_model
from tests.ground.trainings import (
    assert_close,
    assert_same,
    kill_midway,
    metrics_of,
    start_ranks,
    state_of,
    wait_for,
)

pytest.importorskip("accelerate", reason="needs accelerate of the extra 'train'")

# every key that may hold a randomly drawn number is on
EVERYTHING: dict[str, Any] = {
    "data__train": None,  # filled in where the folder is known
    "targets__translations": "terms",
    "losses": {"mse": 0.1, "cosine": 1.0, "contrastive": 1.0},
    "spans": {"utterances": 2, "runs": 1, "max_run": 2, "one_piece": 0.5, "cut_off": 0.5},
    "augment": {"noise": 0.5, "speed": 0.1, "gain_db": 3.0, "mask": 0.1},
    "student__pooler__dropout": 0.1,
}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("world")
    make_speech(root / "speech", 44)
    make_teacher(root / "teacher")
    make_teacher(root / "deep", layers=2)
    return root


def _everything(world: Path, output: str, **changes: Any) -> dict[str, Any]:
    source = {"kind": "folder", "path": str(world / "speech"), "translations": {"deu": "back"}}
    return plain_config(world, output, **(EVERYTHING | {"data__train": [source]} | changes))


def _cached(world: Path, folder: Path) -> dict[str, Any]:
    """Changes for a frozen Whisper whose frames are kept."""
    whisper = save_directory(folder, tiny_model())
    return {
        "models": {"sentence-transformers": str(world / "teacher"), "whisper-base": str(whisper.directory)},
        "student__backbone": {"kind": "whisper"},
        "student__train_backbone": False,
        "augment__variants": 1,
        "cache": str(folder / "cache"),
    }


def _program(config: dict[str, Any], file: Path) -> list[str]:
    file.write_text(yaml.safe_dump(config))
    return [sys.executable, "-m", "seamlessalign", "train", "speech-encoder", str(file)]


def _same_students(a: Path, b: Path) -> bool:
    ours, theirs = (load_file(folder / "student" / "model.safetensors") for folder in (a, b))
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.parametrize("backbone", ["scratch", pytest.param("cached-whisper", marks=pytest.mark.slow)])
def test_a_killed_training_goes_on_as_if_it_had_not_been(world: Path, tmp_path: Path, backbone: str) -> None:
    changes = _cached(world, tmp_path) if backbone == "cached-whisper" else {}
    if not changes:  # a teacher whose rows depend, in their last bits, on what else is in their batch
        changes = {"models": {"sentence-transformers": str(world / "deep")}}
    straight = _everything(world, f"straight-{backbone}", **changes)
    killed = _everything(world, f"killed-{backbone}", **changes)
    if backbone == "cached-whisper":
        killed["cache"] = str(tmp_path / "another-cache")
    train(parsed(straight))
    folder = world / f"killed-{backbone}"
    kill_midway([*_program(killed, tmp_path / "killed.yaml"), "checkpoint_every=4"], folder, 6, 12)
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"step": 7, "lo')  # as when the kill came while a line was written
    train(parsed(killed))
    assert_same(folder, world / f"straight-{backbone}")
    assert _same_students(folder, world / f"straight-{backbone}")


@pytest.mark.slow
@pytest.mark.parametrize("backbone", ["scratch", pytest.param("whisper", marks=pytest.mark.thorough)])
def test_two_processes_are_one(world: Path, tmp_path: Path, backbone: str) -> None:
    """Two ranks over gloo learn what one process learns from the same batches, dropout aside."""
    changes: dict[str, Any] = {"student__pooler__dropout": 0.0, "optimiser__steps": 8, "optimiser__batch": 7}
    if backbone == "whisper":
        changes["models"] = {
            "sentence-transformers": str(world / "teacher"),
            "whisper-base": str(save_directory(tmp_path, tiny_model()).directory),
        }
        changes |= {"student__backbone": {"kind": "whisper"}, "student__train_backbone": True}
    one = _everything(world, f"one-{backbone}", **changes)
    train(parsed(one))
    two = _everything(world, f"two-{backbone}", **changes)
    wait_for(start_ranks(_program(two, tmp_path / "two.yaml")))
    keys = ["loss", "mse", "cosine", "contrastive", "grad_norm", "lr"]
    assert_close(world / f"two-{backbone}", world / f"one-{backbone}", keys)
    first, second = (state_of(world / f"{name}-{backbone}")["model"] for name in ("one", "two"))
    furthest = max(float((first[name] - second[name]).abs().max()) for name in first)
    assert furthest < 2e-3  # Adam divides by gradients that are next to nothing


@pytest.mark.slow
@pytest.mark.thorough
def test_processes_that_load_make_no_difference(world: Path) -> None:
    for workers in (0, 2):
        train(parsed(_everything(world, f"workers-{workers}", resources__workers=workers)))
    assert metrics_of(world / "workers-0") == metrics_of(world / "workers-2")
    assert _same_students(world / "workers-0", world / "workers-2")


def test_it_learns(world: Path) -> None:
    """Held-out sentences are found by their speech, of words that were learnt in others."""
    config = plain_config(
        world,
        "learns",
        optimiser={"steps": 150, "batch": 16, "lr": 0.003, "warmup": 10},
        validation__every=50,
        log_every=50,
        checkpoint_every=1000,
    )
    result = train(parsed(config))
    lines = metrics_of(world / "learns")
    found = [line["p_at_1"] for line in lines if "p_at_1" in line]
    loss = [line["loss"] for line in lines if "loss" in line]
    assert len(found) == 3 and result.best == max(found) >= 0.7
    assert loss[-1] < 0.3 * loss[0]
    student = Student.load(world / "learns" / "student")
    waveform = say("red cat runs", 99)
    frames = student.backbone.frames(waveform, np.array([[0, len(waveform)]]), "eng")
    row = student.pool(frames, np.array([[0, len(waveform)], [0, len(waveform) // 2]]))
    assert torch.allclose(row.norm(dim=1), torch.ones(2), atol=1e-5)
    card = card_beside(world / "learns" / "student", "any")
    assert card is not None and set(card.means) == {"eng"} and 0 < np.linalg.norm(card.means["eng"]) < 1
    picture = (world / "learns" / "curve.svg").read_text()
    assert picture.count("<polyline") == 2 and f"{max(found):.3f}" in picture


class TestCache:
    @pytest.fixture(scope="class")
    def cached(self, world: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
        """Changes of a training that has heard everything: `first`."""
        changes = _cached(world, tmp_path_factory.mktemp("cached"))
        train(parsed(_everything(world, "first", **changes)))
        return changes

    def test_later_epochs_hear_nothing(
        self, world: Path, cached: dict[str, Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        training = Training(parsed(_everything(world, "second", **cached)))

        def never(*_: Any) -> None:
            raise AssertionError("heard again")

        monkeypatch.setattr("seamlessalign.embedders.student.recordings.load_speech", never)
        monkeypatch.setattr(training.backbone, "hear", never)
        training.run()
        assert metrics_of(world / "first") == metrics_of(world / "second")
        assert _same_students(world / "first", world / "second")

    def test_a_damaged_file_is_heard_again(self, world: Path, cached: dict[str, Any]) -> None:
        files = sorted(Path(cached["cache"]).rglob("*.safetensors"))
        files[0].write_bytes(files[0].read_bytes()[:-100])
        files[1].write_bytes(b"")
        train(parsed(_everything(world, "third", **cached)))
        assert metrics_of(world / "third") == metrics_of(world / "first")
        assert sorted(Path(cached["cache"]).rglob("*.safetensors")) == files

    def test_what_was_being_written_is_heard_again(self, world: Path, cached: dict[str, Any]) -> None:
        """Of a batch that was heard together, half had been kept when the program was killed."""
        cache = FrameCache(cached["cache"])
        files = sorted(Path(cached["cache"]).rglob("*.safetensors"))
        keys = [file.stem for file in files[:4]]
        (cache.folder / "begun").mkdir(exist_ok=True)
        (cache.folder / "begun" / "x.json").write_text(json.dumps(keys))
        for file in files[2:4]:
            file.unlink()
        cache.recover()
        assert sorted(cache.folder.rglob("*.safetensors")) == files[4:] and not list(cache.folder.rglob("*.json"))
        train(parsed(_everything(world, "fourth", **cached)))
        assert sorted(cache.folder.rglob("*.safetensors")) == files


@pytest.mark.parametrize(
    ("backbone", "pooler", "precision"),
    [
        ("whisper-decoder", "attention", "no"),
        ("whisper-decoder", "mean", "no"),
        ("w2v-bert", "max", "no"),
        ("scratch", "attention", "bf16"),
    ],
)
def test_other_backbones_poolers_and_precisions(
    world: Path, tmp_path: Path, backbone: str, pooler: str, precision: str
) -> None:
    changes = _cached(world, tmp_path) if backbone == "whisper-decoder" else {}
    if backbone == "w2v-bert":
        torch.manual_seed(0)
        sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4, "intermediate_size": 48}
        Wav2Vec2BertModel(Wav2Vec2BertConfig(**sizes)).save_pretrained(tmp_path)
        changes = {"student__backbone": {"kind": "w2v-bert", "directory": str(tmp_path)}}
    elif backbone == "whisper-decoder":
        changes |= {"student__backbone": {"kind": "whisper-decoder"}}
    name = f"{backbone}-{pooler}-{precision}"
    if pooler != "attention":
        changes |= {"student__pooler": {"kind": pooler}, "student__pooler__dropout": 0.0}
    config = _everything(world, name, resources__precision=precision, optimiser__steps=6, **changes)
    result = train(parsed(config))
    losses = [line["loss"] for line in metrics_of(world / name) if "loss" in line]
    assert result.steps == 6 == len(losses) and np.isfinite(losses).all()
    loaded = Student.load(world / name / "student", models=config["models"])
    waveform = say("red cat runs", 99)
    frames = loaded.backbone.frames(waveform, np.array([[0, len(waveform)]]), "eng")
    row = loaded.pool(frames, np.array([[0, len(waveform)]]))
    assert row.dtype == torch.float32 and float(row.norm()) == pytest.approx(1, abs=1e-5)


def test_the_card_is_written_again_where_it_is_missing(world: Path) -> None:
    """As if the training had been killed between its last checkpoint and the card."""
    config = plain_config(world, "card", optimiser__steps=4)
    result = train(parsed(config))
    lines, card = metrics_of(world / "card"), world / "card/student/card.yaml"
    written = card.read_bytes()
    card.unlink()
    (world / "card/metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines[:-1]))
    assert train(parsed(config)) == result
    assert card.read_bytes() == written and metrics_of(world / "card") == lines


class TestFolder:
    def test_other_data_is_refused(self, world: Path, tmp_path: Path) -> None:
        make_speech(tmp_path / "speech", 20)
        config = plain_config(world, "data", optimiser__steps=2)
        config["data"]["train"][0]["path"] = str(tmp_path / "speech")
        train(parsed(config))
        manifest = tmp_path / "speech" / "speech.tsv"
        manifest.write_text("\n".join(manifest.read_text().splitlines()[:-1]) + "\n")
        with pytest.raises(ConfigError, match="digest of utterances and models"):
            train(parsed(config))


class TestRejects:
    def test_sound_that_is_no_speech_is_counted(self, world: Path, tmp_path: Path) -> None:
        import soundfile

        folder = make_speech(tmp_path / "speech", 30)
        soundfile.write(folder / "0.flac", np.zeros(16_000), 16_000)
        bad = np.full(16_000, 0.1, np.float32)
        bad[100:8000] = np.nan
        soundfile.write(folder / "1.wav", bad, 16_000, subtype="FLOAT")
        manifest = folder / "speech.tsv"
        manifest.write_text(manifest.read_text().replace("1.flac", "1.wav", 1))
        config = plain_config(world, "rejects", optimiser={"steps": 10, "batch": 8}, data__validation_share=0.1)
        config["data"]["train"][0]["path"] = str(folder)
        train(parsed(config))
        assert metrics_of(world / "rejects")[-1]["set_aside"] == {"bad_samples": 1, "silent": 1}

    def test_nothing_but_silence_ends_with_an_error(self, world: Path, tmp_path: Path) -> None:
        import soundfile

        folder = make_speech(tmp_path / "speech", 20)
        for file in folder.glob("*.flac"):
            soundfile.write(file, np.zeros(16_000), 16_000)
        config = plain_config(world, "silence", optimiser={"steps": 3, "batch": 8})
        config["data"]["train"][0]["path"] = str(folder)
        with pytest.raises(InputError, match="no language has two utterances in which anything is heard"):
            train(parsed(config))


class TestCommand:
    def test_it_trains(self, world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        _program(plain_config(world, "command"), tmp_path / "c.yaml")
        assert main(["train", "speech-encoder", str(tmp_path / "c.yaml"), "optimiser.steps=2"]) == 0
        assert "P@1" in capsys.readouterr().out

    @pytest.mark.parametrize(
        ("override", "why"),
        [
            ("optimiser.stepz=3", "unknown key 'optimiser.stepz'; did you mean 'steps'?"),
            ("student.pooler.kind=sum", "student.pooler: kind 'sum' is not known"),
            ("losses.temperature=0", "losses.temperature: input should be greater than 0, not 0"),
            ("cache=frames", "cache is for frozen backbones"),
            ("spans.runs=2", "spans: runs and one_piece need utterances of 2 or more"),
            ("targets.translations=mean", "no source of data.train has translations"),
            ("spans.cut_off=0.5", None),
            ("losses={cosine: 0}", "give mse, cosine or contrastive a weight above 0"),
        ],
    )
    def test_a_wrong_key_is_one_line(
        self, world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], override: str, why: str | None
    ) -> None:
        config = plain_config(world, "wrong", losses={"cosine": 1.0})
        _program(config, tmp_path / "c.yaml")
        assert main(["train", "speech-encoder", str(tmp_path / "c.yaml"), override]) == 2
        said = capsys.readouterr().err
        assert (why or "spans.cut_off needs losses.contrastive") in said and said.count("\n") == 1

    def test_paths_lie_beside_the_file(self, tmp_path: Path) -> None:
        config = plain_config(tmp_path, "out")
        config["data"]["train"] = [
            {"kind": "espeak", "path": "a.txt", "lang": "fra", "voices": ["fr"], "translations": {"eng": "b.txt"}},
            {"kind": "parquet", "path": "/c/*.parquet", "translations": {"eng": "english"}},
        ]
        (tmp_path / "c.yaml").write_text(yaml.safe_dump(config | {"models": {"e5-small": "e5"}}))
        read = load_training_config(str(tmp_path / "c.yaml"))
        assert [source.path for source in read.data.train] == [str(tmp_path / "a.txt"), "/c/*.parquet"]
        assert [dict(source.translations) for source in read.data.train] == [
            {"eng": str(tmp_path / "b.txt")},
            {"eng": "english"},
        ]
        assert read.models == {"e5-small": str(tmp_path / "e5")}

    def test_the_documents_example_can_be_read(self, tmp_path: Path) -> None:
        page = (Path(__file__).parents[2] / "docs" / "speech_encoders.md").read_text(encoding="utf-8")
        (tmp_path / "c.yaml").write_text(page.split("```yaml\n")[1].split("```")[0])
        read = load_training_config(str(tmp_path / "c.yaml"))
        assert [source.kind for source in read.data.train] == ["espeak", "espeak", "parquet"]
