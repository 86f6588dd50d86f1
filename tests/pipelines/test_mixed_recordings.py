"""Recordings in which people speak two languages: every span has the language that is spoken in it, or none."""

import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import soundfile
import yaml

from seamlessalign import storage
from seamlessalign.audio import decode
from seamlessalign.config import SpansConfig, VadConfig
from seamlessalign.errors import SeamlessAlignError
from seamlessalign.pipelines.demo_audio import trim
from seamlessalign.pipelines.demo_data import fetch_prompts
from seamlessalign.pipelines.demo_sources import num_words
from seamlessalign.pipelines.folder import RunFolder
from seamlessalign.pipelines.ledger import read_marks
from seamlessalign.pipelines.span_counts import fragment_settings, kept_frames, spans_of
from seamlessalign.rows import SAMPLE_RATE
from seamlessalign.segmentation.kept_scores import to_scores
from seamlessalign.segmentation.vad import fragments_of
from tests.pipelines.small_corpus import SmallRun, mine, need_models, write_config

LANGS = ("fra", "ita")
HEARD = SAMPLE_RATE // 10  # less of a language inside a span is a margin of its neighbour
PLANS = {  # languages of the prompts of a recording, one after the other
    "blocks": ["fra", "fra", "fra", "fra", "ita", "ita", "ita", "ita", "fra", "fra", "fra", "ita", "ita", "ita"],
    "turns": ["fra", "ita"] * 6,
}

pytestmark = [pytest.mark.slow, pytest.mark.embedded, pytest.mark.speech]


@dataclass(frozen=True)
class Mixed:
    """A run, and where in each recording which language is spoken: (start, end, language) in samples."""

    run: SmallRun
    spoken: dict[str, list[tuple[int, int, str]]]

    def languages(self, name: str, start: int, end: int) -> set[str]:
        """What is spoken between two samples."""
        return {lang for low, high, lang in self.spoken[name] if min(end, high) - max(start, low) > HEARD}


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Mixed:
    """Prompts of Asterisk by two speakers, each said in one language only, with pauses that spans may cross."""
    need_models()
    root = tmp_path_factory.mktemp("mixed")
    try:
        prompts = fetch_prompts(Path(os.environ.get("SEAMLESSALIGN_DEMO_CACHE", root / "cache")))
    except SeamlessAlignError as error:
        pytest.skip(f"the prompts cannot be fetched: {error}")
    rng = np.random.default_rng(5)
    names = [name for name in sorted(prompts.english) if num_words(prompts.english[name]) >= 4]
    names = [name for name in names if all(name in prompts.prompts[lang] for lang in LANGS)]
    rng.shuffle(names)
    spoken: dict[str, list[tuple[int, int, str]]] = {}
    texts: list[str] = []
    for recording, plan in PLANS.items():
        parts, spoken[recording], at = [np.zeros(SAMPLE_RATE, np.float32)], [], SAMPLE_RATE
        for lang in plan:
            while True:
                name = names.pop()
                samples = decode(prompts.prompts[lang][name].audio).samples
                first, last = trim(samples)
                if 1.5 * SAMPLE_RATE < last - first < 8 * SAMPLE_RATE:
                    break
            spoken[recording].append((at, at + last - first, lang))
            texts.append(prompts.english[name])
            parts += [samples[first:last], np.zeros(int(rng.uniform(0.4, 0.9) * SAMPLE_RATE), np.float32)]
            at += sum(map(len, parts[-2:]))
        noise = 1e-4 * rng.standard_normal(at).astype(np.float32)
        soundfile.write(root / f"{recording}.flac", np.concatenate(parts) + noise, SAMPLE_RATE)
    (root / "texts.txt").write_text("\n".join([*texts, *prompts.distractors[:50]]) + "\n")
    speech = {"inputs": ["*.flac"], "lid": {"per_segment": True}, "vad": {"keep_probabilities": True}}
    config = write_config(root / "run.yaml", speech=speech, text={"inputs": ["texts.txt"]})
    return Mixed(mine(config, root / "run", "directions=[eng-frA,eng-itA]"), spoken)


def test_spans_have_the_language_that_is_spoken_in_them(mixed: Mixed) -> None:
    assert mixed.run.status == 0, mixed.run.err
    uris = storage.list_files(str(mixed.run.folder / "segments"), ".parquet")
    rows = [row for uri in uris for row in storage.read_table(uri, ["uri", "start", "end", "lang"]).to_pylist()]
    given = {(Path(row["uri"]).stem, row["start"], row["end"]): row["lang"] for row in rows}
    found = Counter[tuple[str, str, str]]()
    for row, _ in kept_frames(str(mixed.run.folder)):
        fragments = fragments_of(to_scores(row), **fragment_settings(VadConfig()))
        name = Path(row["uri"]).stem
        for start, end in spans_of(fragments, SpansConfig()).spans.tolist():
            said = mixed.languages(name, start, end)
            found[name, "+".join(sorted(said)), given.get((name, start, end), "dropped")] += 1
    print(dict(found))
    assert sum(found.values()) > 100
    assert {name for name, _, _ in found} == set(PLANS)
    wrong = {what: count for what, count in found.items() if what[2] not in ("dropped", what[1])}
    assert wrong == {}  # also none across a change
    for lang in LANGS:
        alone = {what[2]: count for what, count in found.items() if what[:2] == ("blocks", lang)}
        assert alone[lang] >= 0.8 * sum(alone.values()), found
    kept = {lang: sum(n for (name, _, one), n in found.items() if (name, one) == ("turns", lang)) for lang in LANGS}
    assert min(kept.values()) >= 3, found  # of six prompts of each


def test_spans_without_a_language_are_counted(mixed: Mixed) -> None:
    lines = [line for mark in read_marks(RunFolder(str(mixed.run.folder)), "speech").values() for line in mark.lines]
    dropped = Counter[str]()
    for line in lines:
        if line.stage == "segments":
            assert line.rows_in == line.rows_kept + sum(line.dropped.values())
            dropped.update(line.dropped)
    assert dropped["language_mixed"] > 20
    assert dropped.keys() <= {"language_mixed", "language_uncertain", "language_not_wanted", "no_words"}
    config = yaml.safe_load((mixed.run.folder / "run.yaml").read_text())
    assert config["speech"]["lid"]["per_segment"] is True


def test_pairs_are_of_spans_in_the_language_of_their_direction(mixed: Mixed) -> None:
    count = 0
    for direction, lang in (("eng-frA", "fra"), ("eng-itA", "ita")):
        for uri in storage.list_files(str(mixed.run.folder / "pairs" / f"direction={direction}"), ".parquet"):
            for row in storage.read_table(uri, ["tgt_uri", "tgt_start", "tgt_end", "tgt_lang"]).to_pylist():
                assert row["tgt_lang"] == lang
                assert mixed.languages(Path(row["tgt_uri"]).stem, row["tgt_start"], row["tgt_end"]) == {lang}
                count += 1
    assert count > 10
