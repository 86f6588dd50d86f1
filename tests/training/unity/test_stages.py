"""The stages as they lie beside the code, one behind the other, on data and models that are as small as can be."""

import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import transformers

from seamlessalign.audio import encode
from seamlessalign.cli import main
from seamlessalign.embedders.sonar.tags import TAGS
from seamlessalign.rows import TRANSCRIPTS
from seamlessalign.training.unity import train
from seamlessalign.training.unity.generation import Source, load_translator
from seamlessalign.training.unity.model import load_unity
from seamlessalign.training.unity.search import SearchOptions
from tests.ground.sounds import noise
from tests.ground.trainings import metrics_of
from tests.training.data.data_world import corpus_row, sentence, units_of, write_corpus, write_units
from tests.training.tiny_unity import pieces

STAGES = Path(train.__file__).parent / "stages"
COUNT = 12


def _clip(number: int) -> bytes:
    return encode(noise(6000 + 400 * number, seed=number)[:, 0], "flac")


def _write_data(folder: Path) -> None:
    """What the stages name, beside them: a run with its units and transcripts, transcribed speech, and its units.

    The run has English text with French speech, and French speech with English speech, which nobody wrote down.
    """
    rows = [corpus_row(i) for i in range(COUNT)]
    spoken: list[dict[str, Any]] = []
    for i in range(COUNT):
        clip = {"bytes": _clip(i), "path": f"{i}.flac"}
        sides = {"src_lang": "fra", "tgt_lang": "eng", "src_text": None, "tgt_text": None, "src_audio": clip}
        spoken.append(corpus_row(100 + i) | sides | {"src_start": 0, "src_end": 6000 + 400 * i})
    write_corpus(folder / "mined", [*rows, *spoken])
    write_units(folder / "mined", spoken)
    heard = [
        {"pair_id": row["pair_id"], "side": "tgt", "lang": "eng", "text": sentence(700 + i), "avg_logprob": -0.3}
        for i, row in enumerate(spoken)
    ]
    (folder / "mined" / "transcripts").mkdir()
    pq.write_table(pa.Table.from_pylist(heard, TRANSCRIPTS), folder / "mined" / "transcripts" / "part-0.parquet")
    ids = [f"row {i}" for i in range(COUNT)]
    langs = ["eng" if i % 2 else "fra" for i in range(COUNT)]
    clips = [{"bytes": _clip(i), "path": f"{i}.flac"} for i in range(COUNT)]
    said = [sentence(i + 500) for i in range(COUNT)]
    tables: dict[str, dict[str, list[Any]]] = {
        "transcribed": {"id": ids, "lang": langs, "audio": clips, "text": said},
        "units": {"pair_id": ids, "side": ["src"] * COUNT, "units": [units_of(i) for i in range(COUNT)]},
    }
    for name, columns in tables.items():
        (folder / name).mkdir()
        pq.write_table(pa.table(columns), folder / name / "part-0.parquet", row_group_size=5)


def _write_models(folder: Path) -> list[str]:
    """A w2v-BERT 2.0 and an NLLB with random weights; the overrides that name them."""
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    speech = transformers.Wav2Vec2BertConfig(intermediate_size=24, conv_depthwise_kernel_size=7, **sizes)
    transformers.Wav2Vec2BertModel(speech).save_pretrained(folder / "w2v")
    sides: dict[str, Any] = {"encoder_layers": 1, "decoder_layers": 1, "encoder_ffn_dim": 24, "decoder_ffn_dim": 24}
    text = transformers.M2M100Config(
        vocab_size=60 + 1 + len(TAGS) + 3, d_model=16, encoder_attention_heads=2, decoder_attention_heads=2, **sides
    )
    transformers.M2M100ForConditionalGeneration(text).save_pretrained(folder / "nllb")
    (folder / "nllb" / "sentencepiece.bpe.model").write_bytes(pieces())
    return [f"start.speech_encoder={folder / 'w2v'}", f"start.text={folder / 'nllb'}"]


@pytest.mark.slow
def test_they_run_one_behind_the_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only places, sizes and numbers of steps are others. What a stage freezes is the same to the bit behind it."""
    configs = tmp_path / "configs"
    shutil.copytree(STAGES, configs)
    _write_data(configs)
    monkeypatch.chdir(tmp_path)
    small = ["size=tiny", "num_units=12", f"output={tmp_path / 'runs/unity/start'}"]
    assert main(["train", "unity-start", str(configs / "start.yaml"), *_write_models(tmp_path), *small]) == 0

    quick = ["optimiser.steps=2", "optimiser.warmup=1", "optimiser.accumulate=2", "validation.every=2"]
    quick += ["validation.translate=1", "data.validation_share=0.3", "tensorboard=false"]
    quick += ["resources.device=cpu", "resources.workers=0", "resources.threads=1"]
    learnt = {"stage1": {"asr eng-eng", "s2tt fra-eng"}, "stage2": {"asr eng-eng", "asr fra-fra", "s2tt fra-eng"}}
    learnt |= {"t2u": {"t2st eng-eng", "t2st fra-fra"}, "stage3": {"s2st fra-eng"}}
    before = load_unity(tmp_path / "runs/unity/start")[0].model.state_dict()
    for stage, directions in learnt.items():
        assert main(["train", "unity", str(configs / f"{stage}.yaml"), *quick]) == 0
        output = tmp_path / "runs" / "unity" / stage
        after = load_unity(output / "model")[0].model.state_dict()
        moved = {name for name, value in after.items() if not torch.equal(value, before[name])}
        first = {name.split(".")[0] for name in moved}
        if stage in ("t2u", "stage3"):
            assert first == {"t2u_model"}
        else:
            assert {"speech_encoder", "text_encoder", "text_decoder"} <= first
            assert not first & {"t2u_model", "vocoder"}
            assert not any("running_" in name or "num_batches" in name for name in moved)
        told = next(line["directions"] for line in metrics_of(output) if "directions" in line)
        assert set(told) <= directions and set(told), stage
        before = after

    search = SearchOptions(beam=2, most=8)
    translator = load_translator(tmp_path / "runs/unity/stage3/model", text_search=search, unit_search=search)
    (made,) = translator.translate_rows([Source("fra", waveform=noise(9000)[:, 0])], units=True)
    assert made.tokens and made.units
