"""How Whisper-base hears and translates human speech as it gets noisy, and how far that depends on the speaker.

    python -m benchmarks.prompts_robustness --cache .cache --to FOLDER

Forty of Asterisk's prompts, of at least five English words and at most eight seconds: in French by one speaker, which
are transcribed and translated into English, and in Italian by two, which are translated. They are heard as they are,
and with pink noise and with babble of the others at 10, 0 and -10 dB. Writes a test set and a configuration, evaluates
it as `seamlessalign evaluate` does, and prints its table. The page is FOLDER/evaluation/evaluation.html. What was
stopped goes on when it is started again.
"""

import argparse
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from seamlessalign.audio import decode
from seamlessalign.pipelines.context import use_threads
from seamlessalign.pipelines.demo_sources import Prompt, PromptCollection, fetch_package, fetch_prompts, say
from seamlessalign.rows import SAMPLE_RATE
from seamlessalign.training.evaluation.config import load_evaluation_config
from seamlessalign.training.evaluation.evaluate import evaluate
from seamlessalign.training.evaluation.results import table

MIN_WORDS, MAX_SECONDS, PROMPTS = 5, 8, 40
CONFIGURATION = {
    "systems": {"whisper": {"whisper": "whisper-base"}},
    "noise": {"kinds": ["pink", "babble"], "snrs": [10, 0, -10]},
    "measures": {"text": ["bleu", "chrf++", "error_rate"], "speakers": {"min_groups": 40}},
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the test set, evaluate, and print the table."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--cache", type=Path, required=True, help="where fetched packages are kept")
    parser.add_argument("--to", type=Path, required=True, help="folder for the test set and the evaluation")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args(arguments)
    use_threads(options.threads)
    folder = options.to.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in rows(options.cache.absolute()))
    (folder / "rows.jsonl").write_text("".join(lines), encoding="utf-8")
    config = folder / "robustness.yaml"
    told = {"output": str(folder / "evaluation"), "rows": {"path": "rows.jsonl"}, **CONFIGURATION}
    config.write_text(yaml.safe_dump(told, sort_keys=False), encoding="utf-8")
    print(table(evaluate(load_evaluation_config(str(config)), say)))


def rows(cache: Path) -> Iterator[dict[str, Any]]:
    """Of each prompt one in French for each of two languages, and one in Italian for each of two speakers."""
    found = fetch_prompts(cache)
    package = fetch_package("asterisk-prompt-it-menardi-wav", cache)
    sounds = package / "usr/share/asterisk/sounds/it_IT_f_Menardi"
    second = {file.relative_to(sounds).with_suffix("").as_posix(): file for file in sounds.rglob("*.wav")}
    keys = [key for key in sorted(found.english) if _fits(key, found, second)]
    for key in keys[:: max(1, len(keys) // PROMPTS)][:PROMPTS]:
        french, italian, english = found.prompts["fra"][key], found.prompts["ita"][key], found.english[key]
        june = {"src_lang": "fra", "src_audio": str(french.audio), "speaker": "June", "group": key}
        yield {"id": f"{key}/fra", "tgt_lang": "fra", "reference": french.text, **june}
        yield {"id": f"{key}/fra-eng", "tgt_lang": "eng", "reference": english, **june}
        for speaker, audio in (("Carlo", italian.audio), ("Menardi", second[key])):
            yield {
                "id": f"{key}/{speaker}",
                "src_lang": "ita",
                "tgt_lang": "eng",
                "reference": english,
                "src_audio": str(audio),
                "speaker": speaker,
                "group": key,
            }


def _fits(key: str, found: PromptCollection, second: dict[str, Path]) -> bool:
    """Whether all three say it, and it is neither too short nor too long."""
    said: list[Prompt | None] = [found.prompts[lang].get(key) for lang in ("fra", "ita")]
    if None in said or key not in second or len(found.english[key].split()) < MIN_WORDS:
        return False
    files = [*(prompt.audio for prompt in said if prompt), second[key]]
    return all(len(decode(file).samples) <= MAX_SECONDS * SAMPLE_RATE for file in files)


if __name__ == "__main__":
    main()
