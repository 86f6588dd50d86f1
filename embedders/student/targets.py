"""What a student is taught: a text embedder's rows of what is said, and of its translations."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xxhash

from seamlessalign import storage
from seamlessalign.embedders.card import unit_rows
from seamlessalign.embedders.student.frames import Float32, Int64
from seamlessalign.embedders.student.losses import Term
from seamlessalign.embedders.student.training_config import TargetsConfig
from seamlessalign.embedders.text import TextEmbedder, spoken_form
from seamlessalign.typed_config import digest


@dataclass(frozen=True)
class Meaning:
    """What is said in a span, and its translations: language → text."""

    lang: str
    text: str
    translations: Mapping[str, str]


class Teacher:
    """Rows of texts, each computed once and kept: 1.5 kB in memory, and as much on disk, for each of E5-small's.

    Those that are computed together are one file, so that a row does not depend on when a program was killed: its last
    bits may depend on what else is in its batch.
    """

    def __init__(self, embedder: TextEmbedder, config: TargetsConfig, folder: Path | None = None) -> None:
        """Keep rows below a folder, and read those that are there; in memory only where there is none."""
        self.embedder = embedder
        self.dim = embedder.dim
        self._config = config
        self._rows: dict[tuple[str, str], Float32] = {}
        means = sorted((lang, mean.tobytes().hex()) for lang, mean in embedder.card.means.items())
        made_by = digest(embedder.name, sorted(embedder.models.items()), config.centre, means)
        self._folder = folder / f"teacher-{made_by}" if folder else None
        for file in sorted(self._folder.glob("*.safetensors")) if self._folder else []:
            self._read(file)

    def rows(self, texts: Sequence[str], lang: str) -> Float32:
        """Unit rows `(len(texts), dim)` of texts of one language, centred where the configuration says so."""
        wanted = [text for text in dict.fromkeys(texts) if (lang, text) not in self._rows]
        if wanted:
            centred = self._config.centre
            new = self.embedder.embed(wanted, lang) if centred else self.embedder.encode_uncentred(wanted, lang)
            self._keep(wanted, lang, unit_rows(new))
        return (
            np.stack([self._rows[lang, text] for text in texts]) if len(texts) else np.zeros((0, self.dim), np.float32)
        )

    def _keep(self, texts: list[str], lang: str, rows: Float32) -> None:
        from safetensors.numpy import save_file

        if self._folder is not None:
            name = xxhash.xxh3_64_hexdigest(json.dumps([lang, texts]).encode())
            with storage.atomic_local(str(self._folder / f"{name}.safetensors")) as temporary:
                save_file({"rows": rows}, temporary, {"lang": lang, "texts": json.dumps(texts)})
        self._rows |= {(lang, text): row for text, row in zip(texts, rows, strict=True)}

    def _read(self, file: Path) -> None:
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(file, "np") as opened:
                about = opened.metadata() or {}
                texts, rows = json.loads(about["texts"]), opened.get_tensor("rows")
                self._rows |= {(about["lang"], text): row for text, row in zip(texts, rows, strict=True)}
        except (OSError, SafetensorError, KeyError, ValueError):
            file.unlink(missing_ok=True)  # damaged: its texts are embedded again

    def terms(self, meanings: Sequence[Meaning], languages: Sequence[str]) -> list[Term]:
        """The targets of spans.

        `languages` are those of translations, in the order of the terms that they make. With `mean` there is one term:
        `own_weight` times the transcription's row plus `weight` times that of each translation, of unit length again.
        """
        config = self._config
        weighted = [
            (config.weight, [(lang, meaning.translations.get(lang)) for meaning in meanings]) for lang in languages
        ]
        if config.own_weight:
            weighted.insert(0, (config.own_weight, [(meaning.lang, meaning.text) for meaning in meanings]))
        views = [(weight, *self._view(texts)) for weight, texts in weighted]
        if config.translations == "mean" and views:
            summed = unit_rows(np.asarray(sum(weight * rows for weight, rows, _ in views), np.float32))
            views = [(1.0, summed, np.any([there for *_, there in views], axis=0))]
        return [Term(torch.from_numpy(rows), torch.from_numpy(there), weight) for weight, rows, there in views]

    def mean(self, lang: str) -> Float32:
        """The mean of a language that rows are centred by, `(dim,)`."""
        return self.embedder.card.mean(lang)

    def _view(self, texts: Sequence[tuple[str, str | None]]) -> tuple[Float32, Any]:
        rows = np.zeros((len(texts), self.dim), np.float32)
        there = np.array([text is not None for _, text in texts], np.bool_)
        for lang in sorted({lang for lang, text in texts if text is not None}):
            places = [i for i, (other, text) in enumerate(texts) if other == lang and text is not None]
            rows[places] = self.rows([str(texts[i][1]) for i in places], lang)
        return rows, there


def labels(meanings: Sequence[Meaning], languages: Sequence[str]) -> Int64:
    """Numbers of what is said in each language, `(num_meanings, num_languages)`; 0 where that is not known."""
    made = np.zeros((len(meanings), len(languages)), np.int64)
    for row, meaning in zip(made, meanings, strict=True):
        for lang, text in ((meaning.lang, meaning.text), *meaning.translations.items()):
            if lang in languages:
                row[languages.index(lang)] = label(text)
    return made


def label(text: str) -> int:
    """A number that texts share which sound the same; never 0."""
    return int(np.int64(xxhash.xxh3_64_intdigest(spoken_form(text).encode()) >> 1)) or 1


def same_meaning(numbers: Any) -> Any:
    """Which items say the same in any language, bool `(num_items, num_items)`, of `labels` as a tensor."""
    equal = (numbers[:, None] == numbers[None]) & (numbers[:, None] != 0)
    return equal.any(2) | torch.eye(len(numbers), dtype=torch.bool, device=numbers.device)
