"""BLASER 2.0: how well a translation says what its source says, from embeddings, of speech or text alike.

A perceptron over embeddings of unit length was taught the grades that people gave by XSTS, from 1, nothing in common,
to 5 (Dale and Costa-jussà 2024, "BLASER 2.0: a metric for evaluation and quality estimation of massively multilingual
speech and text translation"): `ref` of source, translation and reference, `qe` without the reference. Nothing keeps it
within the scale. The unsupervised forms are cosines (Chen et al. 2023, "BLASER: A Text-Free Speech-to-Speech
Translation Evaluation Metric").
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from seamlessalign import storage
from seamlessalign.embedders.sonar.checkpoints import read_tensors
from seamlessalign.errors import InputError, ModelError
from seamlessalign.training.evaluation.config import EvaluationConfig
from seamlessalign.training.evaluation.learned.embedded import Embedded, Embedders
from seamlessalign.training.evaluation.learned.learned_config import Blaser, Modality
from seamlessalign.training.evaluation.measures import (
    Float64,
    Measured,
    RowMean,
    check_rows,
    num_references,
    references_told,
)
from seamlessalign.training.evaluation.rows import TestRow, by_direction
from seamlessalign.training.evaluation.subjects import Subject, Tools

Float32 = npt.NDArray[np.float32]
Int64 = npt.NDArray[np.int64]
Form = Literal["ref", "qe"]

FORMS: tuple[Form, ...] = ("ref", "qe")
PARTS = {"ref": 6, "qe": 4}  # features of a row, in dimensions of an embedding
NAMES = {
    "blaser_ref": "BLASER 2.0 ref",
    "blaser_qe": "BLASER 2.0 qe",
    "blaser_unsupervised": "BLASER unsupervised",
    "blaser_unsupervised_qe": "BLASER unsupervised qe",
}
_LINEAR = (1, 4, 7)  # places in the published Sequential: dropout, linear, tanh, dropout, linear, tanh, dropout, linear
_ROWS = 1024  # that go through the perceptron together
_SAID = ("blank", "not_unicode", "not_embedded", "nothing_heard")  # outputs that are there, but have no embedding


# The perceptron


def features(src: Float32, mt: Float32, ref: Float32 | None = None) -> Float32:
    """What the perceptron is given, `(num_rows, 6 * dim)` with references, `(num_rows, 4 * dim)` without.

    Rows are of unit length, `(num_rows, dim)`. The order is that of the published models.
    """
    if ref is None:
        return np.concatenate([src, mt, src * mt, np.abs(mt - src)], axis=1)
    return np.concatenate([ref, mt, src * mt, ref * mt, np.abs(mt - src), np.abs(mt - ref)], axis=1)


class Perceptron:
    """The weights of `facebook/blaser-2.0-ref` or `-qe`, or of others of this form; sizes are read off the file."""

    def __init__(self, path: str, form: Form, device: str = "cpu") -> None:
        """path: `model.pt` as published, or .safetensors; nothing in it is executed.

        Raises ModelError for a file that is not there, damaged, or of another form.
        """
        import torch

        file = Path(path)
        _check_file(path, form)
        self.path, self.form, self._device = path, form, torch.device(device)
        tensors = {name: tensor.float() for name, tensor in read_tensors(file).items()}
        sizes = _sizes(tensors, path)
        self.dim, rest = divmod(sizes[0], PARTS[form])
        if rest:
            raise ModelError(f"{path}: takes {sizes[0]} features, which is no multiple of {PARTS[form]}, as of {form}")
        self.sha256 = storage.sha256_of(file)
        first, second = (torch.nn.Linear(*pair) for pair in ((sizes[0], sizes[1]), (sizes[1], sizes[2])))
        last = torch.nn.Linear(sizes[2], 1)
        layers = [first, torch.nn.Tanh(), second, torch.nn.Tanh(), last]  # dropout is of training
        self._mlp: Any = torch.nn.Sequential(*layers)
        self._mlp.load_state_dict(
            {
                f"{ours}.{part}": tensors[f"mlp.{theirs}.{part}"]
                for ours, theirs in zip((0, 2, 4), _LINEAR, strict=True)
                for part in ("weight", "bias")
            }
        )
        self._mlp.to(self._device).eval()

    def check_dim(self, dim: int, embedders: str) -> None:
        """Raise ModelError unless it is for embeddings of so many dimensions."""
        if self.dim == dim:
            return
        inputs = self.dim * PARTS[self.form]
        other = next((form for form, parts in PARTS.items() if parts * dim == inputs), None)
        hint = f": it is that of {other}" if other else ""
        raise ModelError(
            f"{self.path}: as {self.form}, takes {inputs} features of {self.dim} dimensions; "
            f"{embedders} has {dim}{hint}"
        )

    def grades(self, src: Float32, mt: Float32, ref: Float32 | None = None) -> Float64:
        """The grade of each row, `(num_rows,)`, of rows of unit length `(num_rows, dim)`; `ref` with references."""
        import torch

        found = []
        with torch.inference_mode():
            for start in range(0, len(src), _ROWS):
                some = slice(start, start + _ROWS)
                given = features(src[some], mt[some], None if ref is None else ref[some])
                made = self._mlp(torch.from_numpy(given).to(self._device))
                found.append(made[:, 0].cpu().numpy().astype(np.float64))
        return np.concatenate(found) if found else np.zeros(0)


def _check_file(path: str, form: Form) -> None:
    if not Path(path).is_file():
        raise ModelError(f"{path}: is no file: give the model.pt of facebook/blaser-2.0-{form}")


def _sizes(tensors: dict[str, Any], path: str) -> tuple[int, int, int]:
    """Features, and both hidden layers. Raises ModelError for other tensors, shapes that do not fit, or NaN."""
    wanted = [f"mlp.{place}.{part}" for place in _LINEAR for part in ("weight", "bias")]
    if sorted(tensors) != sorted(wanted):
        there = ", ".join(sorted(tensors)[:6])
        raise ModelError(f"{path}: is no BLASER 2.0, which has {', '.join(wanted)}: it has {there}")
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    try:
        (first, inputs), (second, _), _ = (shapes[f"mlp.{place}.weight"] for place in _LINEAR)
        due = [(first, inputs), (first,), (second, first), (second,), (1, second), (1,)]
    except ValueError:
        due = []
    if [shapes[name] for name in wanted] != due:
        told = ", ".join(f"{name} {'×'.join(map(str, shapes[name]))}" for name in wanted)
        raise ModelError(f"{path}: is no BLASER 2.0: shapes of its layers do not fit each other: {told}")
    if not all(tensor.isfinite().all() for tensor in tensors.values()):
        raise ModelError(f"{path}: has values that are not finite")
    return inputs, first, second


# Measures


def check(rows: Sequence[TestRow], config: EvaluationConfig) -> None:
    """Raise InputError unless rows have what `measures.blaser` compares, in languages that its embedders know.

    Raises ModelError without files of weights, ConfigError for embedders of different spaces. Nothing is loaded.
    """
    section = config.measures.blaser
    if section is None:
        return
    for form in FORMS:
        if f"blaser_{form}" in section.measures:
            _check_file(str(getattr(section, form)), form)
    embedders = Embedders(section.text, section.speech, section.directories, section.device)
    for places in by_direction(rows).values():
        some = [rows[place] for place in places]
        source = _source_of(some, section)
        _check_there(some, *(("src_sound", "src_audio") if source == "speech" else ("src_text", "src_text")))
        embedders.check_language(source, some[0].src_lang)
        if not section.uses_references:
            continue
        embedders.check_language(section.reference, some[0].tgt_lang)
        if section.reference == "speech":
            _check_there(some, "reference_sound", "reference_audio")
        else:
            check_rows([row.id for row in some], [row.references for row in some])


def measured(subject: Subject, tools: Tools) -> Iterator[Measured]:
    """`measures.blaser` of what a system wrote, and of what it said where there is an embedder of speech."""
    section = tools.config.measures.blaser
    if section is None:
        return
    made = [what for what in section.translations if (subject.wrote if what == "text" else subject.spoke)]
    usable = [what for what in made if getattr(section, what) is not None]
    if made and not usable:
        raise InputError(
            f"measures.blaser: {subject.system} made {made[0]}: name an embedder of {made[0]} under {made[0]}"
        )
    if usable:
        models = tools.once("blaser", lambda: _Models(section, tools))
        for what in usable:
            yield from _Scores(subject, section, models, what).measured()


class _Models:
    """Embedders and perceptrons that fit them. Raises ModelError, ConfigError where they do not."""

    def __init__(self, section: Blaser, tools: Tools) -> None:
        self.heads: dict[str, Perceptron] = {}
        for form in FORMS:
            path = getattr(section, form)
            if f"blaser_{form}" in section.measures and path is not None:
                self.heads[f"blaser_{form}"] = Perceptron(path, form, section.device)
        self.embedders = Embedders(section.text, section.speech, section.directories, section.device, tools.say)
        for head in self.heads.values():
            head.check_dim(self.embedders.dim, " and ".join(name for name in (section.text, section.speech) if name))


@dataclass(frozen=True)
class _Scores:
    """Scores of the rows of a subject, of what it wrote or of what it said."""

    subject: Subject
    section: Blaser
    models: _Models
    what: Modality

    def measured(self) -> Iterator[Measured]:
        ids = self.subject.ids()
        behind = [{"id": ids[place], "what": reason} for place, reason in sorted(self._made.failed.items())]
        for number, kind in enumerate(self.section.measures):
            values = self._values(kind)
            mean = RowMean(NAMES[kind] + (", speech" if self.what == "speech" else ""), "")
            yield Measured(
                kind,
                mean.name,
                self._signature(kind),
                True,
                ids,
                mean.of(values),
                mean.score,
                condition=self.subject.condition,
                missing=sum(reason not in _SAID for reason in self._made.failed.values()),
                details={"rows": {"lowest": values.min(), "highest": values.max()}, **self._failed(kind)},
                behind=[] if number else behind,
            )

    def _values(self, kind: str) -> Float64:
        """The score of each row; where something has no embedding, the lowest. Over several references it is a mean."""
        src, mt, head = self._src, self._made, self.models.heads.get(kind)
        nothing = set(src.failed) | set(mt.failed)
        if kind.endswith("qe"):
            scores = _cosines(src.rows, mt.rows) if head is None else head.grades(src.rows, mt.rows)
            scores[sorted(nothing)] = self._lowest(kind)
            return scores
        of, ref = self._references
        if head is None:
            scores = (_cosines(src.rows, mt.rows)[of] + _cosines(ref.rows, mt.rows[of])) / 2
        else:
            scores = head.grades(src.rows[of], mt.rows[of], ref.rows)
        scores[np.isin(of, sorted(nothing))] = self._lowest(kind)
        scores[sorted(ref.failed)] = self._lowest(kind)
        return np.bincount(of, scores) / np.bincount(of)

    def _lowest(self, kind: str) -> float:
        return self.section.lowest if kind in self.models.heads else 0.0

    def _signature(self, kind: str) -> str:
        """Form, weights, and what embeds source, translation and reference."""
        told = [f"form:{kind.removeprefix('blaser_')}"]
        if kind in self.models.heads:
            told.append(f"weights:{self.models.heads[kind].sha256[:8]}")
        sides: list[tuple[str, Modality, str]] = [
            ("src", self._source, self.subject.src_lang),
            ("mt", self.what, self.subject.tgt_lang),
        ]
        if not kind.endswith("qe"):
            spoken = self.section.reference == "speech"
            sides.append(("ref", self.section.reference, self.subject.tgt_lang))
            rows = self.subject.rows
            told.append(references_told(1 if spoken else num_references([row.references for row in rows])))
        told += [f"{side}:{self.models.embedders.signature(what, lang)}" for side, what, lang in sides]
        if self.section.device != "cpu":
            told.append(f"device:{self.section.device.partition(':')[0]}")  # embedders compute in half precision there
        return "|".join([*told, f"empty:{self._lowest(kind):g}"])

    def _failed(self, kind: str) -> dict[str, dict[str, int]]:
        """What has no embedding, by reason."""
        sides = {"outputs": self._made, "sources": self._src}
        if not kind.endswith("qe"):
            sides["references"] = self._references[1]
        return {
            f"{side} without an embedding": dict(Counter(one.failed.values()))
            for side, one in sides.items()
            if one.failed
        }

    @property
    def _source(self) -> Modality:
        return _source_of(self.subject.rows, self.section)

    @cached_property
    def _src(self) -> Embedded:
        rows, lang = self.subject.rows, self.subject.src_lang
        if self._source == "speech":
            return self.models.embedders.sounds([row.src_sound for row in rows], lang)
        return self.models.embedders.texts([row.src_text for row in rows], lang)

    @cached_property
    def _made(self) -> Embedded:
        lang, outputs = self.subject.tgt_lang, self.subject.outputs
        if self.what == "speech":
            made = self.models.embedders.sounds(self.subject.sounds(), lang)
        else:
            made = self.models.embedders.texts(self.subject.texts(), lang)
        failed = {
            place: (outputs[place].reason or reason) if reason == "no_output" else reason
            for place, reason in made.failed.items()
        }
        return Embedded(made.rows, failed)

    @cached_property
    def _references(self) -> tuple[Int64, Embedded]:
        """All references: of which row each is, and its embedding."""
        rows, lang = self.subject.rows, self.subject.tgt_lang
        if self.section.reference == "speech":
            sounds = [row.reference_sound for row in rows]
            return np.arange(len(rows)), self.models.embedders.sounds(sounds, lang)
        of = np.repeat(np.arange(len(rows)), [len(row.references) for row in rows])
        return of, self.models.embedders.texts([text for row in rows for text in row.references], lang)


def _cosines(one: Float32, other: Float32) -> Float64:
    """Of rows of unit length."""
    return np.asarray((one.astype(np.float64) * other).sum(axis=1), np.float64)


def _source_of(rows: Sequence[TestRow], section: Blaser) -> Modality:
    if section.source != "auto":
        return section.source
    heard = section.speech is not None and all(row.src_sound is not None for row in rows)
    return "speech" if heard or section.text is None else "text"


def _check_there(rows: Sequence[TestRow], field: str, column: str) -> None:
    lacking = [row.id for row in rows if getattr(row, field) is None]
    if lacking:
        raise InputError(
            f"measures.blaser: {len(lacking)} of {len(rows)} rows of {rows[0].direction} have no {column}, such as "
            f"{lacking[0]}: it compares translations with them"
        )
