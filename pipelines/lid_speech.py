"""Speech of known languages out of Debian packages: what a language identifier learns from, and what it is tested on.

    python -m seamlessalign.pipelines.lid_speech --cache .cache --out runs/lid

writes three folders with a manifest (`path`, `lang`, `speaker`): `learnt` and `held-out`, people who speak words,
letters and short sentences in games, whose names tell the two apart; and `test`, people who speak prompts of
Asterisk, of whom nothing is in the other two. Sound stays where packages were unpacked; raw GSM is copied as FLAC.
`texts.jsonl` has the sentences that espeak-ng reads out, one object of texts by language a line.
"""

import argparse
import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import soundfile
import soxr

from seamlessalign import storage
from seamlessalign.audio import decode
from seamlessalign.errors import InputError, UnreadableError
from seamlessalign.languages import from_model_code
from seamlessalign.pipelines.demo_sources import fetch_package, say
from seamlessalign.rows import SAMPLE_RATE
from seamlessalign.speech_sources import text_lines

PACKAGES = (
    "tuxpaint-stamps-default",
    "ktuberling-data",
    "klettres-data",
    "fillets-ng-data-cs",
    "fillets-ng-data-nl",
    "hedgewars-data",
)
# package → (folder of prompts, language); the five of the demo, and a second speaker of three of them
TEST_PACKAGES = {
    "asterisk-core-sounds-en-g722": ("en_US_f_Allison", "eng"),
    "asterisk-core-sounds-es-g722": ("es_MX_f_Allison", "spa"),
    "asterisk-core-sounds-fr-g722": ("fr_CA_f_June", "fra"),
    "asterisk-core-sounds-it-g722": ("it_IT_m_Carlo", "ita"),
    "asterisk-core-sounds-ru-g722": ("ru_RU_f_IvrvoiceRU", "rus"),
    "asterisk-prompt-es-co": ("es", "spa"),
    "asterisk-prompt-fr-armelle": ("fr", "fra"),
    "asterisk-prompt-it-menardi-wav": ("it_IT_f_Menardi", "ita"),
}
HELD_OUT = 0.15  # of the names of clips
# voices by language; `Russian` speaks English with an accent, and is left out
_HEDGEWARS = {
    "British": "eng",
    "Classic": "eng",
    "Default": "eng",
    "Default_es": "spa",
    "Default_pl": "pol",
    "Default_ru": "rus",
    "Default_uk": "ukr",
    "HillBilly": "eng",
    "Mobster": "eng",
    "Surfer": "eng",
}
_SUFFIXES = (".ogg", ".wav", ".mp3", ".flac", ".g722")
_NOT_SPEECH = ("silence", "beep", "tone", "ascending", "descending", "confbridge-join", "confbridge-leave")


@dataclass(frozen=True)
class Spoken:
    """One sound file."""

    file: Path
    lang: str  # ISO 639-3
    speaker: str  # the corpus and the folder it is in: as near as the packages say
    name: str  # the same for the same word in all languages: held out together


def main(arguments: Sequence[str] | None = None) -> None:
    """Fetch the packages and write the manifests."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--cache", type=Path, required=True, help="where fetched packages are kept")
    parser.add_argument("--out", type=Path, required=True, help="folder to write to")
    parser.add_argument("--texts", type=Path, help="parallel texts, a line of JSON each, for espeak-ng")
    parser.add_argument("--max-texts", type=int, default=20_000, help="lines of them (default: %(default)s)")
    options = parser.parse_args(arguments)
    spoken = list(human_speech(options.cache))
    learnt = [one for one in spoken if not is_held_out(one.name)]
    write_manifest(options.out / "learnt", learnt)
    write_manifest(options.out / "held-out", [one for one in spoken if is_held_out(one.name)])
    write_manifest(options.out / "test", list(test_speech(options.cache, options.out / "test")))
    if options.texts:
        lines = text_lines(str(options.texts))
        kept = [line for line in lines if _is_spoken(json.loads(line))][: options.max_texts]
        storage.write_bytes_atomic(str(options.out / "texts.jsonl"), ("\n".join(kept) + "\n").encode())
        say(f"{options.out / 'texts.jsonl'}: {len(kept)} lines")


def human_speech(cache: Path) -> Iterator[Spoken]:
    """People who are not Asterisk's, of all packages, sorted."""
    roots = {name: fetch_package(name, cache) for name in PACKAGES}
    yield from _stamps(roots["tuxpaint-stamps-default"] / "usr/share/tuxpaint/stamps")
    for name, folder in (("ktuberling", "usr/share/ktuberling/sounds"), ("klettres", "usr/share/klettres")):
        root = roots[f"{name}-data"] / folder
        for file in _sounds(root):
            code, *rest = file.relative_to(root).parts
            lang = _language(code)
            if lang and rest and _is_whole(file):
                yield Spoken(file, lang, f"{name}-{code}", f"{name}/{Path(*rest).with_suffix('')}")
    for code, lang in (("cs", "ces"), ("nl", "nld")):
        root = roots[f"fillets-ng-data-{code}"] / "usr/share/games/fillets-ng/sound"
        for file in _sounds(root):
            yield Spoken(file, lang, f"fillets-{code}", f"fillets/{file.relative_to(root).with_suffix('')}")
    root = roots["hedgewars-data"] / "usr/share/games/hedgewars/Data/Sounds/voices"
    for voice, lang in _HEDGEWARS.items():
        for file in _sounds(root / voice):
            if soundfile.info(file).frames > 0.8 * soundfile.info(file).samplerate:  # shorter ones are cries
                yield Spoken(file, lang, f"hedgewars-{voice}", f"hedgewars/{file.stem}")


def test_speech(cache: Path, folder: Path) -> Iterator[Spoken]:
    """Asterisk's prompts, of at least a second; raw GSM is written into `folder` as FLAC."""
    for package, (voice, lang) in TEST_PACKAGES.items():
        root = fetch_package(package, cache) / "usr/share/asterisk/sounds" / voice
        files = [file for file in sorted(root.rglob("*")) if file.suffix in (*_SUFFIXES, ".gsm")]
        if not files:
            raise InputError(f"{root}: holds no prompts; remove it to fetch the package {package} again")
        for file in files:
            if any(word in file.name for word in _NOT_SPEECH) or _seconds(file) < 1.0:
                continue
            made = file
            if file.suffix == ".gsm":
                made = folder / "flac" / package / file.relative_to(root).with_suffix(".flac")
                if not made.is_file():
                    _unpack_gsm(file, made)
            yield Spoken(made, lang, package, str(file.relative_to(root).with_suffix("")))


test_speech.__test__ = False  # type: ignore[attr-defined]  # for pytest, which takes it for a test by its name


def is_held_out(name: str) -> bool:
    """Whether clips of a name are held out, in every language."""
    return int(hashlib.sha256(name.encode()).hexdigest()[:8], 16) / 16**8 < HELD_OUT


def write_manifest(folder: Path, spoken: Sequence[Spoken]) -> None:
    """Write `clips.tsv` of absolute paths into a folder."""
    rows = ["path\tlang\tspeaker", *(f"{one.file.absolute()}\t{one.lang}\t{one.speaker}" for one in spoken)]
    storage.write_bytes_atomic(str(folder / "clips.tsv"), ("\n".join(rows) + "\n").encode())
    langs = sorted({one.lang for one in spoken})
    speakers = len({one.speaker for one in spoken})
    say(f"{folder}: {len(spoken)} clips, {len(langs)} languages, {speakers} speakers: {' '.join(langs)}")


def _stamps(root: Path) -> Iterator[Spoken]:
    """Names of stamps, `NAME_desc_LL.ogg`; what has no code is English."""
    for file in _sounds(root):
        name, found, code = file.stem.partition("_desc")
        if not found:
            continue
        lang = _language(code.removeprefix("_").removesuffix(".ogg") or "en")
        if lang:
            yield Spoken(file, lang, f"stamps-{code}", f"stamps/{(file.parent / name).relative_to(root)}")


def _language(code: str) -> str | None:
    """ISO 639-3 of a locale such as pt_BR or sr@latin."""
    plain = code.split("@")[0].split("_")[0]
    return from_model_code({"no": "nb"}.get(plain, plain), "iso639_1")


def _sounds(root: Path) -> list[Path]:
    found = [file for file in sorted(root.rglob("*")) if file.suffix in _SUFFIXES and file.is_file()]
    if not found:
        raise InputError(f"{root}: holds no sound; remove the package's folder to fetch it again")
    return found


def _seconds(file: Path) -> float:
    if file.suffix == ".g722":
        return file.stat().st_size / 8000
    if file.suffix == ".gsm":
        return file.stat().st_size / 33 * 0.02  # frames of 33 bytes, 20 ms each
    info = soundfile.info(file)
    return float(info.frames / info.samplerate)


def _is_whole(file: Path) -> bool:
    """Whether it decodes; some letters of klettres lack the end of their stream."""
    try:
        decode(file)
    except UnreadableError:
        return False
    return True


def _unpack_gsm(file: Path, made: Path) -> None:
    """Raw GSM 06.10 at 8 kHz to FLAC at 16 kHz."""
    samples, rate = soundfile.read(file, dtype="float32", format="RAW", subtype="GSM610", samplerate=8000, channels=1)
    made.parent.mkdir(parents=True, exist_ok=True)
    with storage.atomic_local(str(made)) as temporary:
        soundfile.write(temporary, soxr.resample(samples, rate, SAMPLE_RATE), SAMPLE_RATE, format="FLAC")


def _is_spoken(texts: dict[str, str]) -> bool:
    """Whether a line has sentences, not single words."""
    return len(texts.get("eng", "").split()) >= 4


if __name__ == "__main__":
    main()
