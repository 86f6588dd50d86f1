"""Prompts for the demo where Debian packages cannot be had: real translations, spoken by espeak-ng.

The texts are sentences of Django's user interface, which its translators keep in gettext catalogs; the voices are those
of espeak-ng, through its shared library. Both come from PyPI wheels that are downloaded and unpacked, not installed.
Formant speech is far from human speech: what is measured on it says little about recordings of people.
"""

import ctypes.util
import gettext
import hashlib
import importlib.util
import io
import json
import re
import sys
import tempfile
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from seamlessalign.errors import InputError
from seamlessalign.espeak import Espeak, find_espeak
from seamlessalign.pipelines.demo_sources import (
    LANGUAGES,
    Prompt,
    PromptCollection,
    distractor_sentences,
    into_cache,
    normalise,
    num_words,
    open_cache,
    run_command,
    say,
)
from seamlessalign.rows import SAMPLE_RATE

SYNTHETIC_NOTE = "Synthetic speech: sentences of Django's user interface spoken by espeak-ng, not by people."

_GETTEXT_CODE = {"spa": "es", "fra": "fr", "ita": "it", "rus": "ru"}
_VOICE = {"eng": "en-us", "spa": "es-419", "fra": "fr", "ita": "it", "rus": "ru"}
_DJANGO = "django>=5.2,<5.3"
_ESPEAK = "espeakng-loader>=0.2,<0.3"
_VERSION = 1  # of what is kept in the cache; raise it when the choice or the voices change
_NOT_SPEAKABLE = re.compile(r"[%{}<>_/=&#@\\\n\x04|]|https?:|…$")


def synthesise_prompts(cache: Path) -> PromptCollection:
    """Parallel sentences in `LANGUAGES` spoken by espeak-ng, kept in `cache`; distractors from Python's own topics.

    Raises InputError where the wheels cannot be downloaded or hold something else than expected.
    """
    say(f"note: {SYNTHETIC_NOTE}")
    cache = open_cache(cache)
    folder = cache / f"espeak-{_VERSION}"
    if not folder.is_dir():
        sentences = _parallel_sentences(_fetch_wheel(_DJANGO, cache))
        with tempfile.TemporaryDirectory(dir=cache, prefix=".speaking-") as name:
            made = Path(name) / "made"
            _speak_all(sentences, made, cache)
            (made / "sentences.json").write_text(json.dumps(sentences, ensure_ascii=False, indent=1), encoding="utf-8")
            into_cache(made, folder)
    sentences = json.loads((folder / "sentences.json").read_text(encoding="utf-8"))
    english = {key: texts["eng"] for key, texts in sentences.items()}
    return PromptCollection(
        prompts={
            lang: {key: Prompt(key, texts[lang], folder / lang / f"{key}.flac") for key, texts in sentences.items()}
            for lang in LANGUAGES
        },
        english=english,
        distractors=distractor_sentences(_python_topics(), english.values()),
        licenses=dict.fromkeys(LANGUAGES, "BSD-3-Clause"),
        sources={lang: f"Django's translations, synthetic voice espeak-ng {_VOICE[lang]}" for lang in LANGUAGES},
        note=SYNTHETIC_NOTE,
    )


def _speak_all(sentences: Mapping[str, Mapping[str, str]], folder: Path, cache: Path) -> None:
    import soundfile
    import soxr

    with _espeak(cache) as espeak:
        for lang in LANGUAGES:
            say(f"speaking {len(sentences)} sentences with the espeak-ng voice {_VOICE[lang]}")
            (folder / lang).mkdir(parents=True)
            for key, texts in sentences.items():
                speech = soxr.resample(espeak.speak(texts[lang], _VOICE[lang]), espeak.sample_rate, SAMPLE_RATE)
                soundfile.write(folder / lang / f"{key}.flac", speech, SAMPLE_RATE, subtype="PCM_16")


@contextmanager
def _espeak(cache: Path) -> Iterator[Espeak]:
    """The engine of the installed loader package, else of its wheel, else of the system."""
    if importlib.util.find_spec("espeakng_loader") is not None:
        espeak = Espeak(*find_espeak())
    else:
        try:
            package = _unpacked_wheel(_ESPEAK, cache) / "espeakng_loader"
        except InputError as error:
            system = ctypes.util.find_library("espeak-ng")
            if system is None:
                raise InputError(f"{error}; or install the system's espeak-ng") from error
            espeak = Espeak(system, None)
        else:
            espeak = Espeak(str(package / "libespeak-ng.so"), str(package))
    try:
        yield espeak
    finally:
        espeak.close()


def _parallel_sentences(wheel: Path) -> dict[str, dict[str, str]]:
    """Sentences of at least 4 English words that all catalogs of the wheel translate: key → ISO 639-3 → text."""
    catalogs: dict[str, dict[str, str]] = {lang: {} for lang in _GETTEXT_CODE}
    with zipfile.ZipFile(wheel) as archive:
        names = sorted(archive.namelist())
        for lang, code in _GETTEXT_CODE.items():
            for name in names:
                if name.endswith(f"/locale/{code}/LC_MESSAGES/django.mo"):
                    catalogs[lang].update(_messages(archive.read(name)))
    shared = sorted(set.intersection(*(set(catalog) for catalog in catalogs.values())))
    sentences = {}
    for english in shared:
        texts = {"eng": normalise(english)} | {lang: normalise(catalogs[lang][english]) for lang in _GETTEXT_CODE}
        if num_words(english) >= 4 and not any(_NOT_SPEAKABLE.search(text) for text in texts.values()):
            sentences[f"ui-{hashlib.sha256(english.encode()).hexdigest()[:8]}"] = texts
    if len(sentences) < 20:
        raise InputError(f"{wheel}: only {len(sentences)} sentences are translated into all languages; need 20")
    return sentences


def _messages(data: bytes) -> dict[str, str]:
    """Plain messages (no plurals, no context) of a compiled gettext catalog."""
    catalog = gettext.GNUTranslations(io.BytesIO(data))
    # The catalog has no public way to list its messages; `_catalog` has been its name since Python 2.
    messages: Mapping[Any, str] = catalog._catalog  # type: ignore[attr-defined]
    return {key: text for key, text in messages.items() if isinstance(key, str) and key and text}


def _python_topics() -> Iterable[str]:
    from pydoc_data import topics

    for text in topics.topics.values():
        for paragraph in re.split(r"\n\s*\n", text):
            yield re.sub(r"[*\"`]+", "", paragraph)


def _unpacked_wheel(requirement: str, cache: Path) -> Path:
    wheel = _fetch_wheel(requirement, cache)
    target = wheel.parent / "unpacked"
    if not target.is_dir():
        with tempfile.TemporaryDirectory(dir=cache, prefix=".unpacking-") as name, zipfile.ZipFile(wheel) as archive:
            archive.extractall(Path(name) / "made")
            into_cache(Path(name) / "made", target)
    return target


def _fetch_wheel(requirement: str, cache: Path) -> Path:
    """The wheel that satisfies a requirement, downloaded once, not installed."""
    target = cache / "pypi" / re.split(r"[<>=]", requirement)[0]
    if not target.is_dir():
        say(f"fetching {requirement} from the package index")
        with tempfile.TemporaryDirectory(dir=cache, prefix=".fetching-") as name:
            made = Path(name) / "made"
            made.mkdir()
            command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
            command += ["--no-deps", "--only-binary", ":all:", "--dest", str(made), requirement]
            hint = "check that pip reaches its package index"
            run_command(command, Path(name), f"PyPI package {requirement} cannot be fetched", hint)
            into_cache(made, target)
    wheels = sorted(target.glob("*.whl"))
    if len(wheels) != 1:
        raise InputError(f"{target}: {len(wheels)} wheels where one was expected; remove the folder to fetch again")
    return wheels[0]
