"""Recognisers: what faster-whisper hears by hand, what a signature names, and what cannot be had."""

import hashlib
import json
import os
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jiwer
import numpy as np
import pytest
import sacrebleu
import soundfile
from numpy.typing import NDArray
from whisper_normalizer.english import EnglishTextNormalizer

from seamlessalign.audio import decode
from seamlessalign.cli import main
from seamlessalign.errors import ConfigError, InputError, MissingPackageError, ModelError
from seamlessalign.languages import to_model_code
from seamlessalign.training.evaluation import recognisers
from seamlessalign.training.evaluation.config import Asr
from seamlessalign.training.evaluation.recognisers import (
    FasterWhisperRecogniser,
    FunctionRecogniser,
    WhisperRecogniser,
    load_recogniser,
)
from tests.ground import tiny_whisper

Float32 = NDArray[np.float32]
BY_HAND: dict[str, Any] = {"beam_size": 1, "temperature": 0.0, "without_timestamps": True, "no_speech_threshold": None}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A small random Whisper in CTranslate2's format, of English only."""
    folder = tmp_path_factory.mktemp("tiny")
    with pytest.MonkeyPatch.context() as patch:
        # faster-whisper wants this one too
        patch.setattr(
            tiny_whisper, "SPECIAL", [*tiny_whisper.SPECIAL[:-2], "<|startofprev|>", *tiny_whisper.SPECIAL[-2:]]
        )
        data = tiny_whisper.ctranslate2_file(tiny_whisper.ctranslate2_variables(tiny_whisper.tiny_model()))
        tiny_whisper.save_tokenizer(folder)
        words = [f"w{i}" for i in range(tiny_whisper.WORDS)] + tiny_whisper.SPECIAL
    (folder / "model.bin").write_bytes(data)
    (folder / "vocabulary.json").write_text(json.dumps(words))
    told = {"suppress_ids": [3, 5], "suppress_ids_begin": [7, tiny_whisper.END], "alignment_heads": [[1, 0]]}
    (folder / "config.json").write_text(json.dumps(told))
    return str(folder)


def _sounds(*seconds: float) -> list[Float32]:
    random = np.random.default_rng(0)
    return [np.asarray(0.1 * random.standard_normal(int(16000 * one)), np.float32) for one in seconds]


def _by_hand(directory: str, sounds: Sequence[Float32], lang: str = "en", **settings: Any) -> list[str]:
    """Each sound by itself, as the package's own documentation has it."""
    from faster_whisper import WhisperModel

    model = WhisperModel(directory, device="cpu", compute_type="float32")
    told = BY_HAND | {"condition_on_previous_text": False} | settings
    return ["".join(part.text for part in model.transcribe(one, language=lang, **told)[0]).strip() for one in sounds]


class TestFasterWhisper:
    def test_sounds_together_are_heard_as_each_by_hand(self, tiny: str) -> None:
        sounds = _sounds(3.0, 0.37, 12.34567, 29.999, 0.01)
        found = FasterWhisperRecogniser(directory=tiny, batch=4).hear(sounds, "eng")
        assert found == _by_hand(tiny, sounds)
        assert len(set(found)) > 2  # else little was compared
        assert FasterWhisperRecogniser(directory=tiny, batch=1).hear(sounds[::-1], "eng") == found[::-1]
        assert FasterWhisperRecogniser(directory=tiny).hear([], "eng") == []

    def test_beam_search(self, tiny: str) -> None:
        sounds = _sounds(3.0, 4.0)
        found = FasterWhisperRecogniser(directory=tiny, beam=3).hear(sounds, "eng")
        assert found == _by_hand(tiny, sounds, beam_size=3)
        assert found != _by_hand(tiny, sounds)

    def test_what_is_longer_than_a_window_is_heard_in_equal_pieces(self, tiny: str) -> None:
        (sound,) = _sounds(31.0)
        (found,) = FasterWhisperRecogniser(directory=tiny).hear([sound], "eng")
        assert found == " ".join(text for text in _by_hand(tiny, np.array_split(sound, 2)) if text)

    def test_the_signature_has_all_that_the_answer_depends_on(self, tiny: str, tmp_path: Path) -> None:
        told = FasterWhisperRecogniser(directory=tiny).signature
        assert re.fullmatch(
            r"asr:whisper-[0-9a-f]{8}\|files:[0-9a-f]{8}\|engine:faster-whisper-[\d.]+\|ctranslate2:[\d.]+\|device:cpu"
            r"\|compute:float32\|beam:1\|temperature:0\|pieces:30s",
            told,
        )
        others = [
            FasterWhisperRecogniser(directory=tiny, beam=5).signature,
            FasterWhisperRecogniser(directory=tiny, compute_type="int8").signature,
        ]
        for name in ("model.bin", "config.json", "vocabulary.json"):  # the same name, and something else in it
            other = tmp_path / name
            other.mkdir()
            for file in Path(tiny).iterdir():
                (other / file.name).write_bytes(file.read_bytes())
            content = (other / name).read_bytes()
            (other / name).write_bytes(content + b"\0\0\0\0" if name == "model.bin" else content + b" ")
            others.append(FasterWhisperRecogniser(directory=str(other)).signature)
        assert len({told, *others}) == 6
        assert FasterWhisperRecogniser(directory=tiny, batch=2).signature == told

    def test_without_the_package(self, tiny: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "faster_whisper", None)
        with pytest.raises(MissingPackageError, match=r"needs the package faster-whisper: .*seamlessalign\[evaluate\]"):
            FasterWhisperRecogniser(directory=tiny).hear(_sounds(1.0), "eng")

    def test_what_cannot_be_had(self, tiny: str, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="language 'fra' is not one that"):
            FasterWhisperRecogniser(directory=tiny).hear(_sounds(1.0), "fra")
        with pytest.raises(ModelError, match="faster-whisper has no whisper-large-v3: name a directory"):
            _ = FasterWhisperRecogniser("whisper-large-v3").signature
        with pytest.raises(ModelError, match=r"lacks model\.bin, config\.json, tokenizer\.json"):
            _ = FasterWhisperRecogniser(directory=str(tmp_path)).signature
        for device, number in (("cpu", "float16"), ("tpu", None)):
            with pytest.raises(ConfigError, match=f"asr: device {device}, compute_type float16: "):
                _ = FasterWhisperRecogniser(directory=tiny, device=device, compute_type=number).signature
        for name in ("config.json", "tokenizer.json"):
            (tmp_path / name).write_bytes((Path(tiny) / name).read_bytes())
        (tmp_path / "model.bin").write_bytes(b"no model")
        with pytest.raises(ModelError, match="faster-whisper cannot load it"):
            _ = FasterWhisperRecogniser(directory=str(tmp_path)).signature


def test_asr_bleu_of_files_is_that_of_faster_whisper_jiwer_and_sacrebleu_by_hand(tiny: str, tmp_path: Path) -> None:
    from faster_whisper import WhisperModel

    files, rows, made = [], [], []
    for number, sound in enumerate(_sounds(3.0, 0.37, 9.0)):
        files.append(str(tmp_path / f"{number}.wav"))
        soundfile.write(files[-1], sound, 16000)
        text = " ".join(f"W{(7 * number + step) % 60}," for step in range(30))
        rows.append(
            {"id": str(number), "src_lang": "fra", "tgt_lang": "eng", "reference": f"W39 {text} w4 w4 w4 w4 w4"}
        )
        made.append({"id": str(number), "audio": files[-1]})
    for name, lines in (("rows", rows), ("made", made)):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    told = {
        "output": str(tmp_path / "out"),
        "rows": {"path": "rows.jsonl"},
        "systems": {"ours": {"path": "made.jsonl"}},
        "measures": {
            "speech": ["asr_bleu", "asr_chrf++", "asr_error_rate"],
            "asr": {"engine": "faster-whisper", "directory": tiny},
        },
    }
    (tmp_path / "config.yaml").write_text(json.dumps(told))
    assert main(["evaluate", str(tmp_path / "config.yaml")]) == 0
    scores = {line["kind"]: line for line in json.loads((tmp_path / "out/evaluation.json").read_text())["scores"]}
    model = WhisperModel(tiny, device="cpu")
    heard = ["".join(part.text for part in model.transcribe(file, language="en", **BY_HAND)[0]) for file in files]
    plain = EnglishTextNormalizer()
    made_plain, wanted = ([plain(text) for text in side] for side in (heard, [row["reference"] for row in rows]))
    bleu = sacrebleu.corpus_bleu(made_plain, [wanted]).score
    assert scores["asr_bleu"]["score"] == bleu > 1
    assert scores["asr_chrf++"]["score"] == sacrebleu.corpus_chrf(made_plain, [wanted], word_order=2).score
    assert scores["asr_error_rate"]["score"] == pytest.approx(100 * jiwer.wer(wanted, made_plain))
    assert "|engine:faster-whisper-" in scores["asr_bleu"]["signature"]


@pytest.mark.embedded
@pytest.mark.speech
@pytest.mark.slow
def test_people_are_heard_as_by_hand_and_much_as_through_transformers(tmp_path: Path) -> None:
    """Two prompts of each of two languages, the embedded Whisper base joined into a directory of CTranslate2's."""
    from seamlessalign.model_files import packaged_model, read_weights
    from seamlessalign.pipelines.demo_sources import fetch_prompts
    from seamlessalign.training.evaluation.text import ErrorRate

    try:
        prompts = fetch_prompts(Path(os.environ.get("SEAMLESSALIGN_DEMO_CACHE", tmp_path))).prompts
    except InputError as error:
        pytest.skip(f"the prompts cannot be fetched: {error}")
    files = packaged_model("whisper-base")
    assert files is not None
    (tmp_path / "model.bin").write_bytes(read_weights(files))
    for name in ("config.json", "tokenizer.json", "vocabulary.txt"):
        (tmp_path / name).write_bytes((files.directory / name).read_bytes())
    for lang in ("spa", "rus"):
        chosen = [prompts[lang][key] for key in ("vm-options", "conf-getconfno")]
        sounds = [np.asarray(decode(one.audio).samples, np.float32)[: 16000 * 12] for one in chosen]
        found = FasterWhisperRecogniser().hear(sounds, lang)
        assert found == _by_hand(str(tmp_path), sounds, str(to_model_code(lang, "whisper")))
        other = WhisperRecogniser().hear(sounds, lang)
        rate = ErrorRate("cer", lang)
        between = rate.statistics([text or "" for text in found], [[text or ""] for text in other])
        assert rate.score(between.sum(0)) < 25  # of other sounds or another language most characters differ
    for recogniser in (FasterWhisperRecogniser(), WhisperRecogniser()):
        assert recogniser.signature.startswith(f"asr:whisper-base-{files.sha256[:8]}|files:")


class TestTransformers:
    def test_the_signature_of_a_directory_is_not_that_of_whisper_base(self, tmp_path: Path) -> None:
        tiny_whisper.save_directory(tmp_path, tiny_whisper.tiny_model())
        told = WhisperRecogniser(directory=str(tmp_path)).signature
        assert re.fullmatch(
            r"asr:whisper-[0-9a-f]{8}\|files:[0-9a-f]{8}\|engine:transformers-[\d.]+\|device:cpu\|compute:float32"
            r"\|beam:1\|temperature:0\|pieces:28s\|silence:2s\|loops:cut",
            told,
        )

    def test_a_language_that_it_was_not_taught(self, tmp_path: Path) -> None:
        tiny_whisper.save_directory(tmp_path, tiny_whisper.tiny_model())
        recogniser = WhisperRecogniser(directory=str(tmp_path))
        with pytest.raises(InputError, match="language 'spa' is not one that "):
            recogniser.hear(_sounds(1.0), "spa")
        assert len(recogniser.hear(_sounds(1.0, 29.0), "fra")) == 2

    def test_no_such_device(self) -> None:
        with pytest.raises(ConfigError, match=r"asr\.device 'cuda:9': torch has no such device here"):
            _ = WhisperRecogniser(device="cuda:9").signature


def half(waveforms: Sequence[Float32], lang: str) -> list[str]:
    return [lang for _ in waveforms[::2]]


def one_text(waveforms: Sequence[Float32], lang: str) -> str:
    return "x" * len(waveforms)


class TestFunction:
    def test_not_a_text_for_each_sound(self) -> None:
        with pytest.raises(ValueError, match="gave 1 texts for 2 sounds"):
            FunctionRecogniser(f"{__name__}:half").hear(_sounds(0.1, 0.1), "fra")
        with pytest.raises(ValueError, match="gave str for 2 sounds, not a list of texts"):
            FunctionRecogniser(f"{__name__}:one_text").hear(_sounds(0.1, 0.1), "fra")

    @pytest.mark.parametrize("place", ["nowhere.at.all:f", f"{__name__}:nothing", "no module", ":", "json:"])
    def test_no_function(self, place: str) -> None:
        with pytest.raises(ConfigError, match="is no function that can be imported"):
            FunctionRecogniser(place)

    def test_what_is_no_function(self) -> None:
        with pytest.raises(ConfigError, match="is no function, but dict"):
            FunctionRecogniser(f"{__name__}:BY_HAND")

    @pytest.fixture
    def here(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr("sys.path", [one for one in __import__("sys").path if one])
        yield tmp_path

    def test_a_file_of_the_folder_where_the_program_runs(self, here: Path) -> None:
        (here / "my_own_asr.py").write_text("def hear(waveforms, lang):\n    return [lang] * len(waveforms)\n")
        found = load_recogniser(Asr(function="my_own_asr:hear"))
        assert found.hear(_sounds(0.1), "fra") == ["fra"]
        content = (here / "my_own_asr.py").read_bytes()
        assert found.signature == f"asr:my_own_asr:hear-{hashlib.sha256(content).hexdigest()[:8]}"
        (here / "my_own_asr.py").write_bytes(content + b"# another\n")
        assert load_recogniser(Asr(function="my_own_asr:hear")).signature != found.signature
        named = "import functools\ndef f(w, lang):\n    return ['']\nf.signature = 'mine|v:2'\n"
        (here / "my_named_asr.py").write_text(f"{named}g = functools.partial(f)\n")
        assert load_recogniser(Asr(function="my_named_asr:f")).signature == "asr:mine|v:2"
        assert load_recogniser(Asr(function="my_named_asr:g")).signature == "asr:my_named_asr:g"
        (here / "my_broken_asr.py").write_text("raise RuntimeError('no weights')\n")
        with pytest.raises(ConfigError, match=r"'my_broken_asr:hear': .*no weights"):
            load_recogniser(Asr(function="my_broken_asr:hear"))


def test_the_recogniser_of_a_configuration(tiny: str) -> None:
    found = load_recogniser(Asr(engine="faster-whisper", directory=tiny, beam=2, compute_type="int8"))
    assert "|compute:int8_float32|beam:2|" in found.signature
    assert isinstance(load_recogniser(Asr()), WhisperRecogniser)
    assert not hasattr(recognisers, "faster_whisper")  # which is loaded when it is used
