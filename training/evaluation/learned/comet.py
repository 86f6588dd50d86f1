"""COMET of what a system wrote, or of what is heard in what it said, through its package.

The package pins releases of numpy, transformers and others that differ from those of this project, so that it runs in a
process of its own (`comet_process.py`), which another environment's Python may run. Checkpoints of COMET are pickled:
unless a configuration says `trusted`, torch is told to load nothing but tensors and plain values.
"""

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from seamlessalign import storage
from seamlessalign.errors import InputError, MissingPackageError, ModelError
from seamlessalign.training.evaluation.config import EvaluationConfig
from seamlessalign.training.evaluation.learned import comet_process
from seamlessalign.training.evaluation.learned.learned_config import Comet
from seamlessalign.training.evaluation.measures import (
    Float64,
    Measured,
    RowMean,
    check_rows,
    num_references,
    references_told,
)
from seamlessalign.training.evaluation.rows import TestRow
from seamlessalign.training.evaluation.subjects import Subject, Tools

_TOGETHER = 512  # sentences that are asked for at a time

Sample = tuple[str, str, str | None]  # source, translation, reference


def check(rows: Sequence[TestRow], config: EvaluationConfig) -> None:
    """Raise InputError unless rows have what `measures.comet` compares; MissingPackageError without the package."""
    section = config.measures.comet
    if section is None:
        return
    lacking = [row.id for row in rows if row.src_text is None]
    if lacking:
        raise InputError(
            f"measures.comet: {len(lacking)} of {len(rows)} rows have no src_text, such as {lacking[0]}: COMET "
            "compares translations with their source"
        )
    if section.python is None and importlib.util.find_spec("comet") is None:
        raise MissingPackageError("unbabel-comet", "comet", "COMET, unless measures.comet.python has it,")


def measured(subject: Subject, tools: Tools) -> Iterator[Measured]:
    """`measures.comet`: its mean over rows."""
    section = tools.config.measures.comet
    if section is None:
        return
    for kind in section.measures:
        if not (subject.wrote if kind == "comet" else subject.spoke):
            continue
        comet = tools.once("comet", lambda: CometProcess(section, tools.say))
        yield _measured(kind, subject, comet, tools)


def _measured(kind: str, subject: Subject, comet: "CometProcess", tools: Tools) -> Measured:
    texts = subject.texts() if kind == "comet" else subject.heard().texts
    mean = RowMean("COMET" if kind == "comet" else "ASR-COMET", "")
    references = [row.references for row in subject.rows]
    of, samples = [], []
    for place, (row, text) in enumerate(zip(subject.rows, texts, strict=True)):
        for reference in row.references if comet.needs_references else (None,):
            of.append(place)
            samples.append((row.src_text or "", text or "", reference))
    told = [comet.signature]
    if comet.needs_references:
        check_rows(subject.ids(), references)
        told.append(references_told(num_references(references)))
    scores = np.bincount(of, comet.scores(samples)) / np.bincount(of)
    if kind == "comet":
        reasons = subject.reasons(texts)
    else:
        told.append(tools.recogniser.signature)
        reasons = dict(Counter(subject.heard().failed.values()))
    return Measured(
        kind,
        mean.name,
        "|".join(told),
        True,
        subject.ids(),
        mean.of(scores),
        mean.score,
        condition=subject.condition,
        missing=sum(text is None for text in texts),
        details={"failed": reasons} if reasons else {},
    )


class CometProcess:
    """A model of COMET, in a process that lives as long as this object; each sample is scored once."""

    def __init__(self, section: Comet, say: Callable[[str], None] = lambda _: None) -> None:
        """Raises ModelError for a model that cannot be had or loaded, or where there is no package."""
        self._section, self._say = section, say
        self._kept: dict[Sample, float] = {}
        question = {"model": section.model, "device": section.device, "batch": section.batch}
        self._about = self._ask(question)
        self.needs_references = bool(self._about["references"])

    @cached_property
    def signature(self) -> str:
        about = self._about
        name = self._section.model
        return "|".join(
            [
                f"comet:{Path(name).name if Path(name).exists() else name}",
                f"weights:{storage.sha256_of(Path(about['checkpoint']))[:8]}",
                f"class:{about['class']}",
                f"encoder:{about['encoder']}",
                "precision:float32",
                *(["device:cuda"] if self._section.device == "cuda" else []),
                f"version:unbabel-comet-{about['version']}",
            ]
        )

    def scores(self, samples: Sequence[Sample]) -> Float64:
        """The score of each sample, `(len(samples),)`. Raises ModelError where the process fails."""
        new = [sample for sample in dict.fromkeys(samples) if sample not in self._kept]
        for start in range(0, len(new), _TOGETHER):
            some = new[start : start + _TOGETHER]
            asked = [_named(sample) for sample in some]
            self._kept |= dict(zip(some, self._ask({"samples": asked})["scores"], strict=True))
            self._say(f"COMET: {start + len(some)} of {len(new)} sentences scored")
        return np.array([self._kept[sample] for sample in samples], np.float64)

    def _ask(self, question: dict[str, Any]) -> dict[str, Any]:
        try:
            self._process.stdin.write(json.dumps(question) + "\n")  # type: ignore[union-attr]
            self._process.stdin.flush()  # type: ignore[union-attr]
            line = self._process.stdout.readline()  # type: ignore[union-attr]
        except BrokenPipeError:
            line = ""
        if not line:
            self._errors.seek(0)
            told = self._errors.read().decode(errors="replace").strip().splitlines()
            raise ModelError(f"{self._what}: its process ended: {told[-1] if told else 'it says nothing'}")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise self._told(answer)
        return answer

    def _told(self, answer: dict[str, Any]) -> Exception:
        told = " ".join(str(answer["error"]).split())
        if answer["missing"] in ("comet", "torch"):
            return ModelError(f"{self._what}: {self._python} has no package unbabel-comet: install it there")
        if "weights_only" in told or "WeightsUnpickler" in told:
            return ModelError(
                f"{self._what}: the checkpoint holds more than tensors and plain values, and could run code when it is "
                f"loaded; where you trust whoever made it, say measures.comet.trusted: true"
            )
        return ModelError(f"{self._what}: {told[:300]}")

    @property
    def _python(self) -> str:
        return self._section.python or sys.executable

    @property
    def _what(self) -> str:
        return f"measures.comet: {self._section.model}"

    @cached_property
    def _errors(self) -> Any:
        return tempfile.TemporaryFile()  # as long as the process

    @cached_property
    def _process(self) -> "subprocess.Popen[str]":
        guard = "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD" if self._section.trusted else "TORCH_FORCE_WEIGHTS_ONLY_LOAD"
        kept = {key: value for key, value in os.environ.items() if "WEIGHTS_ONLY_LOAD" not in key}
        try:
            return subprocess.Popen(
                [self._python, str(comet_process.__file__)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                text=True,
                encoding="utf-8",
                env={**kept, guard: "1", "TOKENIZERS_PARALLELISM": "false"},
            )
        except OSError as error:
            raise ModelError(f"measures.comet.python: {self._python} cannot be run: {error.strerror}") from error


def _named(sample: Sample) -> dict[str, str]:
    """As the package wants it; half a surrogate pair, which no tokenizer bears, becomes a question mark."""
    texts = zip(("src", "mt", "ref"), sample, strict=True)
    return {name: text.encode(errors="replace").decode() for name, text in texts if text is not None}
