"""An evaluation of human speech: Asterisk's prompts, the same sentences by one speaker in each of five languages.

    python -m benchmarks.prompts_evaluation --cache .cache --to FOLDER

Writes a test set and one configuration, evaluates it as `seamlessalign evaluate` does and prints a summary. The page is
FOLDER/evaluation/evaluation.html. Measured is

- what Whisper-base hears in the recordings: error rates by language, and ASR-BLEU of what people say in each, the
  ceiling of speech that is made in this language and heard by the same recogniser;
- whether encoders find what says the same, between texts, speech and text, and speech.

Rows are the prompts that all five languages have and that have three English words or more, as they were recorded. What
was heard is kept in FOLDER, so that a second run is quick.
"""

import argparse
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import soundfile
import yaml

from seamlessalign.audio import decode
from seamlessalign.charts import WIDTH, Bar, horizontal_bars
from seamlessalign.languages import Side
from seamlessalign.pipelines.context import use_threads
from seamlessalign.pipelines.demo_sources import LANGUAGES, Prompt, fetch_prompts, num_words, say
from seamlessalign.rows import SAMPLE_RATE
from seamlessalign.training.evaluation.config import load_evaluation_config
from seamlessalign.training.evaluation.evaluate import evaluate

Prompts = Mapping[str, Mapping[str, Prompt]]  # language → key → prompt

MIN_WORDS = 3
OTHERS = tuple(lang for lang in LANGUAGES if lang != "eng")
BETWEEN = (("spa", "fra"), ("ita", "rus"), ("fra", "rus"))
TEXT = "e5-small"
_STYLE = "text{font-size:11px;fill:#222}.grid{stroke:#ddd}.axis{stroke:#222}.kept{fill:#2a6f97}"
SPEECH = ("whisper-e5", "transcribe-e5")


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the test set, evaluate, and print a summary."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--cache", type=Path, required=True, help="where fetched packages are kept")
    parser.add_argument("--to", type=Path, required=True, help="folder for the test set and the evaluation")
    parser.add_argument("--prompts", type=int, help="only so many")
    parser.add_argument("--every", type=int, default=1, help="N: encoders are measured on every N-th prompt")
    parser.add_argument("--encoders", nargs="+", default=list(SPEECH), help="of speech, with e5-small for text")
    parser.add_argument("--picture", type=Path, help="SVG file of error rates and of what encoders find")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args(arguments)
    use_threads(options.threads)
    folder = options.to.absolute()
    prompts = chosen(fetch_prompts(options.cache).prompts, options.prompts)
    write_test_set(prompts, folder, options.every)
    config = folder / "evaluation.yaml"
    config.write_text(
        yaml.safe_dump(configuration(folder, options.encoders), sort_keys=False, allow_unicode=True), encoding="utf-8"
    )
    evaluate(load_evaluation_config(str(config)), say)
    told = json.loads((folder / "evaluation/evaluation.json").read_text(encoding="utf-8"))
    print(summary(told))
    if options.picture:
        options.picture.write_text(picture(told["scores"]), encoding="utf-8")


# The test set


def chosen(prompts: Prompts, most: int | None = None) -> dict[str, dict[str, Prompt]]:
    """The prompts that all languages have, with enough words, in the order of their ids."""
    shared = sorted(set.intersection(*(set(prompts[lang]) for lang in LANGUAGES)))
    keys = [key for key in shared if num_words(prompts["eng"][key].text) >= MIN_WORDS][:most]
    return {lang: {key: prompts[lang][key] for key in keys} for lang in LANGUAGES}


def write_test_set(prompts: Prompts, folder: Path, every: int = 1) -> None:
    """Recordings as WAV files, a row for each, and every N-th prompt in all languages side by side."""
    for lang, some in prompts.items():
        for key, prompt in some.items():
            file = folder / _audio(lang, key)
            if not file.is_file():
                file.parent.mkdir(parents=True, exist_ok=True)
                soundfile.write(file, decode(prompt.audio).samples, SAMPLE_RATE, subtype="PCM_16")
    rows, said = [], []
    for lang, some in prompts.items():
        for key, prompt in some.items():
            row = {"id": f"{lang}/{key}", "src_lang": lang, "tgt_lang": lang, "reference": prompt.text}
            rows.append(row | {"src_audio": _audio(lang, key)})
            said.append({"id": row["id"], "audio": _audio(lang, key)})
    _write(folder / "rows.jsonl", rows)
    _write(folder / "people.jsonl", said)
    texts = [
        {"id": key}
        | {lang: prompts[lang][key].text for lang in LANGUAGES}
        | {f"{lang}_audio": _audio(lang, key) for lang in LANGUAGES}
        for key in list(prompts["eng"])[::every]
    ]
    _write(folder / "parallel.jsonl", texts)


def configuration(folder: Path, encoders: Sequence[str] = SPEECH) -> dict[str, Any]:
    """The one configuration of the evaluation."""
    into = [(Side(lang, is_audio=audio), Side("eng", is_audio=False)) for audio in (False, True) for lang in OTHERS]
    spoken = [tuple(Side(lang, is_audio=True) for lang in pair) for pair in BETWEEN]
    return {
        "output": str(folder / "evaluation"),
        "rows": {"path": "rows.jsonl"},
        "systems": {"people": {"path": "people.jsonl"}},
        "measures": {
            "speech": ["asr_error_rate", "asr_bleu", "asr_chrf++"],
            "asr": {"whisper": "whisper-base", "kept": "asr"},
        },
        "encoders": {
            "rows": {
                "path": "parallel.jsonl",
                "texts": {lang: lang for lang in LANGUAGES},
                "sounds": {lang: f"{lang}_audio" for lang in LANGUAGES},
            },
            "systems": {name: {"text": TEXT, "speech": name, "centre": "rows"} for name in encoders},
            "measures": ["xsim", "xsim++", "p_at_1"],
            "directions": [f"{src}-{tgt}" for src, tgt in [*into, *spoken]],
        },
    }


def _audio(lang: str, key: str) -> str:
    return f"audio/{lang}/{key}.wav"


def _write(file: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    file.write_text("".join(lines), encoding="utf-8")


# The summary


def summary(told: Mapping[str, Any]) -> str:
    """Markdown tables of an evaluation.json: what is heard, what is found."""
    scores = list(told["scores"])
    return "\n\n".join("\n".join(lines) for lines in (_heard(scores), _found(scores)))


def _heard(scores: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    kinds = ("asr_error_rate", "asr_bleu", "asr_chrf++")
    by = {(one["direction"], one["kind"]): one for one in scores if one["system"] == "people"}
    yield "| spoken | " + " | ".join(str(by["eng-eng", kind]["measure"]) for kind in kinds) + " |"
    yield "|---" * (len(kinds) + 1) + "|"
    for lang in LANGUAGES:
        yield f"| {lang} | " + " | ".join(_with_interval(by[f"{lang}-{lang}", kind]) for kind in kinds) + " |"


def _found(scores: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    some = [one for one in scores if one["task"] == "encoders"]
    kinds = list(dict.fromkeys((one["kind"], one["measure"]) for one in some))
    by = {(_encoder(one), one["direction"], one["kind"]): one for one in some}
    yield "| encoder | sides | " + " | ".join(measure for _, measure in kinds) + " |"
    yield "|---" * (len(kinds) + 2) + "|"
    for system, direction in dict.fromkeys((_encoder(one), one["direction"]) for one in some):
        cells = [f"{one['score']:.1f}" if (one := by.get((system, direction, kind))) else "" for kind, _ in kinds]
        yield f"| {system} | {direction} | " + " | ".join(cells) + " |"


def picture(scores: Sequence[Mapping[str, Any]]) -> str:
    """Bars of error rates by language, and below them of P@1 by margin of each encoder and direction."""
    heard = [one for one in scores if one["kind"] == "asr_error_rate"]
    found = {(_encoder(one), one["direction"]): one for one in scores if one["kind"] == "p_at_1_margin"}.values()
    charts = [
        (_bars(heard, lambda one: one["direction"].partition("-")[0]), "WER of Whisper-base, per cent"),
        (_bars(found, lambda one: f"{one['direction']}, {_encoder(one)}"), "P@1 by ratio margin, per cent"),
    ]
    parts, top = list[str](), 0.0
    for bars, label in charts:
        chart = horizontal_bars(bars, title=label, x_label=label, label_width=150.0)
        height = float(re.findall(r'viewBox="0 0 \S+ (\S+)"', chart)[0])
        parts.append(chart.replace("<svg ", f'<svg y="{top:g}" width="{WIDTH:g}" height="{height:g}" ', 1))
        top += height + 12
    begin = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH:g} {top:g}" font-family="sans-serif">'
    return f'{begin}<style>{_STYLE}</style><rect width="100%" height="100%" fill="#fff"/>{"".join(parts)}</svg>\n'


def _encoder(one: Mapping[str, Any]) -> str:
    """What embedded the sides of a score; texts are embedded by one encoder, whichever is taken for speech."""
    sides = [Side.parse(side) for side in one["direction"].split("-")]
    return str(one["system"]) if any(side.is_audio for side in sides) else TEXT


def _bars(scores: Iterable[Mapping[str, Any]], label: Callable[[Mapping[str, Any]], str]) -> list[Bar]:
    return [Bar(label(one), one["score"], 0.0, f"{one['score']:.1f}", _with_interval(one)) for one in scores]


def _with_interval(one: Mapping[str, Any]) -> str:
    return f"{one['score']:.1f} ({one['low']:.1f} to {one['high']:.1f})"


if __name__ == "__main__":
    main()
