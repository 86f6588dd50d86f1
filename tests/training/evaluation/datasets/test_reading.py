"""Published test sets through the command: what configurations say, rows as tables, folders as hubs have them."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from seamlessalign.cli import main
from seamlessalign.errors import UnreadableError
from seamlessalign.speech_sources import Sound, load_sound, sound_bytes
from seamlessalign.training.evaluation.config import EvaluationConfig, TestSet, load_evaluation_config
from seamlessalign.training.evaluation.datasets.reading import read_test_set
from seamlessalign.training.evaluation.rows import read_test_rows
from seamlessalign.typed_config import checked
from tests.training.evaluation.datasets.layouts import SENTENCES, fleurs, flores, hertz_of, tone

SAID = {"en_us": [(0, "e0"), (1, "e1"), (2, "e2")], "fr_fr": [(1, "f1"), (0, "f0"), (1, "f1b")]}


def _config(folder: Path, rows: dict[str, Any], **more: Any) -> str:
    (folder / "config.yaml").write_text(json.dumps({"output": str(folder / "out"), "rows": rows, **more}))
    return str(folder / "config.yaml")


def test_outputs_for_a_published_set_are_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fleurs(tmp_path / "sets", SAID, packed=True)
    config = _config(
        tmp_path,
        {"dataset": "fleurs", "path": "sets", "directions": ["eng-fra"]},
        systems={"ours": {"path": "ours.jsonl"}},
    )
    (tmp_path / "ours.jsonl").write_text('{"id": "eng-fra/e0", "text": "Le chat dort."}\n')
    assert main(["evaluate", config, "measures.text=[chrf++]"]) == 0
    told = json.loads((tmp_path / "out/evaluation.json").read_text())
    assert told["systems"]["ours"]["missing"] == ["eng-fra/e1"]
    assert told["data set"]["entries"] == 3
    assert told["data set"]["set_aside"] == {"sentence_not_in_target": 1}
    error = capsys.readouterr().err
    assert "fleurs: 2 rows of 3 entries" in error
    assert "fleurs: 1 set aside: sentence_not_in_target" in error


@pytest.mark.parametrize("kind", ["parquet", "jsonl"])
def test_rows_go_out_and_come_back(tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    fleurs(tmp_path / "sets", SAID, packed=True)
    rows = {"dataset": "fleurs", "path": "sets", "directions": "all", "task": "s2st"}
    config, file = _config(tmp_path, rows), tmp_path / f"rows.{kind}"
    assert main(["evaluate", config, "--rows-to", str(file)]) == 0
    assert f"rows.{kind}: 5 rows" in capsys.readouterr().err
    before = read_test_set(load_evaluation_config(config).rows or TestSet(path="")).rows
    after = read_test_rows(str(file))
    for old, new in zip(before, after, strict=True):
        assert (old.id, old.direction, old.references, old.src_text, old.group) == (
            new.id, new.direction, new.references, new.src_text, new.group,
        )  # fmt: skip
        assert hertz_of(old) == hertz_of(new)
        assert hertz_of(old, reference=True) == hertz_of(new, reference=True)
    assert len({hertz_of(row) for row in after}) == 5
    # and rows of a table with sound in it go out again
    again = _config(tmp_path, {"path": str(file)})
    assert main(["evaluate", again, "--rows-to", str(tmp_path / "again.jsonl")]) == 0
    assert [hertz_of(row) for row in read_test_rows(str(tmp_path / "again.jsonl"))] == [hertz_of(row) for row in after]


def test_an_archive_that_breaks_off(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    many = {"en_us": [(0, f"e{number:03}") for number in range(120)], "fr_fr": [(0, "f0")]}
    fleurs(tmp_path / "sets", many, packed=True)
    archive = tmp_path / "sets/data/en_us/audio/test.tar.gz"
    whole = archive.read_bytes()
    archive.write_bytes(whole[: len(whole) // 2])
    config = _config(tmp_path, {"dataset": "fleurs", "path": "sets", "directions": ["eng-fra"]})
    assert main(["evaluate", config, "--rows-to", str(tmp_path / "rows.parquet")]) == 3
    assert "sounds cannot be read, their rows stay without them: missing" in capsys.readouterr().err
    rows = read_test_rows(str(tmp_path / "rows.parquet"))
    there = [row for row in rows if row.src_sound is not None]
    assert len(rows) == 120
    assert 0 < len(there) < 120
    assert all(hertz_of(row) for row in there)


def test_sound_in_a_tar_file(tmp_path: Path) -> None:
    fleurs(tmp_path, SAID, packed=True)
    archive = str(tmp_path / "data/en_us/audio/test.tar.gz")
    assert sound_bytes(Sound(f"{archive}::test/e0.wav"))[:4] == b"RIFF"
    for wrong in (f"{archive}::test/e9.wav", f"{tmp_path}/nowhere.tar.gz::test/e0.wav"):
        with pytest.raises(UnreadableError, match="missing"):
            load_sound(Sound(wrong), "", "here")


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ({"dataset": "fleur", "path": "x"}, "rows.dataset: input should be 'fleurs', 'covost2', 'cvss' or 'flores200'"),
        ({"dataset": "fleurs", "path": "x"}, "fleurs: give directions: x-eng, eng-x, all, or a list"),
        ({"dataset": "fleurs", "directions": "all"}, "fleurs: give path, its folder, or hub"),
        ({"dataset": "cvss", "hub": "x", "directions": "all"}, "cvss: no hub has it as tables: give path"),
        ({"path": "x.tsv", "split": "test"}, "split goes with dataset, which is not given"),
        ({"dataset": "flores200", "path": "x", "directions": "all", "common_voice": "y"}, "common_voice goes with"),
        ({}, "give path, a table of rows, or dataset, a published test set"),
        ({"dataset": "fleurs", "path": "nowhere", "directions": "all"}, "nowhere: has no folders of FLEURS"),
        ({"dataset": "fleurs", "path": "x", "directions": "all", "limit": 0}, "rows.limit: "),
    ],
)
def test_mistakes_are_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], rows: dict[str, Any], told: str
) -> None:
    config = _config(tmp_path, rows)
    assert main(["evaluate", config, "--rows-to", str(tmp_path / "rows.parquet")]) == 2
    error = capsys.readouterr().err
    assert told in error
    assert error.count("\n") == 1


def test_rows_alone_are_not_evaluated(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flores(tmp_path, {"eng_Latn": ["One."], "fra_Latn": ["Un."]})
    config = _config(tmp_path, {"dataset": "flores200", "path": ".", "directions": "x-eng"})
    assert main(["evaluate", config]) == 2
    assert "there are rows, but no systems" in capsys.readouterr().err
    assert main(["evaluate", config, "--rows-to", str(tmp_path / "rows.csv")]) == 2
    assert "write a .parquet file, or .jsonl" in capsys.readouterr().err


def test_the_configuration_of_the_documentation() -> None:
    text = (Path(__file__).parents[4] / "docs/evaluation_datasets.md").read_text(encoding="utf-8")
    raw = yaml.safe_load(text.partition("```yaml\n")[2].partition("```")[0])
    rows = checked(EvaluationConfig, raw, "docs").rows
    assert rows is not None
    assert rows.wanted().languages == ("seamlessm4t",)


class TestHub:
    """A folder of Parquet files with a card, as a hub has them: the package datasets loads it without one."""

    @pytest.fixture
    def hub(self, tmp_path: Path) -> Path:
        card = ["---", "configs:"]
        for number, (locale, lines) in enumerate(SAID.items()):
            rows = []
            for place, (sentence, name) in enumerate(lines):
                tone(tmp_path / "sounds" / f"{name}.wav", 1000 * (number + 1) + 100 * place)
                sound = {"bytes": (tmp_path / "sounds" / f"{name}.wav").read_bytes(), "path": f"{name}.wav"}
                rows.append(
                    {
                        "id": sentence,
                        "path": f"/x/{name}.wav",
                        "audio": sound,
                        "raw_transcription": SENTENCES[locale][sentence],
                    }
                )
            (tmp_path / "hub" / locale).mkdir(parents=True)
            pq.write_table(pa.Table.from_pylist(rows), tmp_path / f"hub/{locale}/test-0.parquet")
            card += [f"- config_name: {locale}", "  data_files:", "  - split: test", f"    path: {locale}/test-*"]
        (tmp_path / "hub/README.md").write_text("\n".join([*card, "---", ""]))
        return tmp_path

    def test_rows_are_those_of_the_files(self, hub: Path) -> None:
        fleurs(hub / "sets", SAID)
        wanted = {"dataset": "fleurs", "directions": ["eng-fra", "fra-eng"], "task": "s2st"}
        here = read_test_set(load_evaluation_config(_config(hub, wanted | {"hub": "hub"})).rows or TestSet(path=""))
        there = read_test_set(load_evaluation_config(_config(hub, wanted | {"path": "sets"})).rows or TestSet(path=""))
        assert here.set_aside == there.set_aside == {"sentence_not_in_target": 1}
        for one, other in zip(here.rows, there.rows, strict=True):
            assert (one.id, one.references, one.src_text, one.group) == (
                other.id, other.references, other.src_text, other.group,
            )  # fmt: skip
            assert hertz_of(one) == hertz_of(other)
            assert hertz_of(one, reference=True) == hertz_of(other, reference=True)

    def test_what_cannot_be(
        self, hub: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        import datasets
        import huggingface_hub

        for offline in (datasets.config, huggingface_hub.constants):  # else it is tried again for long
            monkeypatch.setattr(offline, "HF_HUB_OFFLINE", True)
        rows = {"dataset": "fleurs", "hub": "hub", "directions": ["eng-fra"]}
        for more, told in (
            ({"split": "dev"}, "en_us has the splits test, not validation"),
            ({"directions": ["eng-deu"]}, "has no deu, but eng, fra"),
            ({"hub": "sounds"}, "has no configurations of FLEURS, such as fr_fr"),
            ({"hub": "nobody/nothing"}, "nobody/nothing: cannot be loaded as a data set"),
        ):
            assert main(["evaluate", _config(hub, rows | more), "--rows-to", "x.parquet"]) == 2
            assert told in capsys.readouterr().err

    def test_what_is_not_parquet_is_kept_as_parquet(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        import datasets

        monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
        texts = {"eng_Latn": ["One.", "NA"], "fra_Latn": ["Un.", "nul"], "cmn_Hans": ["一。", "零"]}
        flores(tmp_path / "hub", texts, plus=True)
        card = ["---", "configs:"]
        for name in texts:
            card += [f"- config_name: {name}", "  data_files:", "  - split: devtest", f"    path: devtest/{name}.jsonl"]
        (tmp_path / "hub/README.md").write_text("\n".join([*card, "---", ""]))
        rows = {"dataset": "flores200", "directions": ["zh-en", "fr-en"]}
        here = read_test_set(TestSet.model_validate(rows | {"hub": str(tmp_path / "hub")}))
        assert here.rows == read_test_set(TestSet.model_validate(rows | {"path": str(tmp_path / "hub")})).rows
        assert len(here.rows) == 4
        assert len(list((tmp_path / "cache/seamlessalign").iterdir())) == 3
