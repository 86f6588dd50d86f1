"""The configuration of an evaluation: one YAML file, checked strictly, with overrides."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, Self

from pydantic import NonNegativeInt, PositiveInt, model_validator

from seamlessalign.training.evaluation.datasets.settings import DataSet
from seamlessalign.training.evaluation.encoders.encoder_config import EncodersTask
from seamlessalign.training.evaluation.encoders.mining_config import MiningTask
from seamlessalign.training.evaluation.front_end.front_end_config import Boundaries, Lid
from seamlessalign.training.evaluation.learned.learned_config import Blaser, Comet
from seamlessalign.training.evaluation.responsible.responsible_config import Gender, Toxicity
from seamlessalign.training.evaluation.robustness.robustness_settings import Noise, Speakers
from seamlessalign.training.evaluation.rows import Columns
from seamlessalign.training.evaluation.systems.system_settings import System
from seamlessalign.typed_config import Once, Section, apply_override, beside, checked, read_yaml

SpeechMeasure = Literal["asr_bleu", "asr_chrf++", "asr_error_rate"]
ComputeType = Literal[
    "float32", "float16", "bfloat16", "int8", "int8_float32", "int8_float16", "int8_bfloat16", "int16"
]
# keys under which something other than translations is measured
TASKS: tuple[str, ...] = ("encoders", "mining", "lid", "boundaries")
TextMeasure = Literal["bleu", "spbleu", "chrf", "chrf++", "error_rate", "wer", "cer"]


class TestSet(DataSet):
    """The rows that are asked for: Parquet (a file, a folder), JSON lines, tab-separated values; or a published set."""

    __test__ = False  # no test of pytest's

    src_lang: str | None = None  # of all rows of a table, where no column says
    tgt_lang: str | None = None  # likewise
    columns: Columns = Columns()


class Asr(Section):
    """What hears the speech that systems made; it is part of the signature."""

    engine: Literal["transformers", "faster-whisper"] = "transformers"  # what runs the Whisper
    whisper: str = "whisper-base"  # or whisper-large-v3, or whisper, any size, with a directory
    directory: str | None = None  # where its files lie: of transformers, or in CTranslate2's format
    function: str | None = None  # package.module:name instead: (waveforms, lang) -> texts
    device: str = "cpu"  # or cuda, cuda:1
    kept: str | None = None  # folder of what was heard before; by default asr/ of the output
    # of faster-whisper
    compute_type: ComputeType | None = None  # by default float32 on the processor, float16 elsewhere
    beam: PositiveInt | None = None  # by default 1: greedy
    batch: PositiveInt | None = None  # windows of 30 s that are heard together; by default 16

    @model_validator(mode="after")
    def _fitting(self) -> Self:
        mine = self.model_fields_set
        if self.engine != "faster-whisper" and (given := mine & {"compute_type", "beam", "batch"}):
            raise ValueError(f"asr.{min(given)} is of engine faster-whisper: say engine, or leave it out")
        if self.function is not None and (given := mine - {"function", "kept"}):
            raise ValueError(f"asr has both function and {min(given)}: give one of them")
        return self


class Measures(Section):
    """What is measured: of text that systems made, where one made any, and of speech, likewise."""

    text: Once[TextMeasure] = ["bleu", "chrf++"]  # error_rate: WER, or CER where a language has no spaces
    speech: Once[SpeechMeasure] = ["asr_bleu"]  # of what is heard in it
    sentencepiece: str | None = None  # the file of spbleu
    asr: Asr = Asr()
    toxicity: Toxicity | None = None
    gender: Gender | None = None
    speakers: Speakers | None = None
    blaser: Blaser | None = None
    comet: Comet | None = None

    @property
    def need_references(self) -> bool:
        """Whether anything is asked for that compares outputs with the references of all rows."""
        others = type(self).model_fields.keys() - {"toxicity", "gender", "asr", "sentencepiece", "blaser", "comet"}
        by_blaser = self.blaser is not None and self.blaser.uses_references and self.blaser.reference == "text"
        return by_blaser or any(getattr(self, name) for name in others)


class Resampling(Section):
    """How intervals and comparisons are made."""

    samples: PositiveInt = 1000  # draws of an interval, and of a bootstrap test
    seed: NonNegativeInt = 12345  # of the draws; part of the signature
    test: Literal["bootstrap", "randomisation"] = "bootstrap"  # of systems against the baseline
    exchanges: PositiveInt = 10_000  # of randomisation


class EvaluationConfig(Section):
    """A whole evaluation."""

    output: str  # folder of the results; relative to where the program runs
    rows: TestSet | None = None  # of translations
    systems: dict[str, System] = {}
    noise: Noise | None = None  # that the rows' speech is mixed with, for systems that are run
    baseline: str | None = None  # the system that the others are compared with; by default the first
    measures: Measures = Measures()
    encoders: EncodersTask | None = None
    mining: MiningTask | None = None
    resampling: Resampling = Resampling()
    lid: Lid | None = None
    boundaries: Boundaries | None = None

    @model_validator(mode="after")
    def _fitting(self) -> Self:
        if self.rows is None and self.systems:
            raise ValueError("systems go with rows, which are not given")
        if self.rows is None and not self.tasks():
            raise ValueError(
                f"there is nothing to evaluate: give rows and systems{''.join(f', or {name}' for name in TASKS)}"
            )
        if self.baseline is not None and self.baseline not in self.systems:
            raise ValueError(f"baseline is {self.baseline!r}, which is none of systems: {', '.join(self.systems)}")
        if "spbleu" in self.measures.text and self.measures.sentencepiece is None:
            raise ValueError("measures.text has spbleu, which needs measures.sentencepiece")
        return self

    def tasks(self) -> list[str]:
        """What is measured other than translations."""
        return [name for name in TASKS if getattr(self, name) is not None]

    def beside(self, file: Path) -> Self:
        """Paths of inputs relative to the folder of the configuration's file."""
        systems = {name: one.beside(file) for name, one in self.systems.items()}
        noise = None if self.noise is None else self.noise.beside(file)
        rows = None if self.rows is None else self.rows.beside(file)
        pieces = self.measures.sentencepiece
        asr = self.measures.asr
        near = {key: beside(file, value) for key in ("directory", "kept") if (value := getattr(asr, key)) is not None}
        measures = self.measures.model_copy(
            update={
                "sentencepiece": beside(file, pieces) if pieces else None,
                "asr": asr.model_copy(update=near),
                "toxicity": self.measures.toxicity and self.measures.toxicity.beside(file),
                "blaser": self.measures.blaser and self.measures.blaser.beside(file),
                "comet": self.measures.comet and self.measures.comet.beside(file),
            }
        )
        tasks = {name: getattr(self, name).beside(file) for name in self.tasks()}
        return self.model_copy(update={"systems": systems, "noise": noise, "rows": rows, "measures": measures, **tasks})


def load_evaluation_config(path: str, overrides: Sequence[str] = ()) -> EvaluationConfig:
    """Read a YAML file and apply `key.sub=value` overrides. Paths are relative to the file's folder, the output's to
    where the program runs.

    Raises ConfigError with one line that names the file, the key and what is wrong.
    """
    raw = read_yaml(path, "'output', 'rows' and 'systems'")
    for override in overrides:
        apply_override(raw, override)
    return checked(EvaluationConfig, raw, path).beside(Path(path))
