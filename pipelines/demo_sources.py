"""Where the demo's prompts come from: Debian's Asterisk voice prompts, recorded by one speaker per language.

The same prompts exist in English, Spanish, French, Italian and Russian, with transcripts, so the truth of what mining
should find is known. The packages are downloaded with `apt-get download` and unpacked with `dpkg-deb -x`, neither of
which needs root, into a cache folder. English sentences that no prompt says come from the `fortunes` packages.
"""

import gzip
import os
import re
import subprocess
import sys
import tempfile
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from seamlessalign.errors import InputError

LANGUAGES = ("eng", "spa", "fra", "ita", "rus")

_DEBIAN_CODE = {"eng": "en", "spa": "es", "fra": "fr", "ita": "it", "rus": "ru"}
_VOICE_FOLDER = {
    "eng": "en_US_f_Allison",
    "spa": "es_MX_f_Allison",
    "fra": "fr_CA_f_June",
    "ita": "it_IT_m_Carlo",
    "rus": "ru_RU_f_IvrvoiceRU",
}
# From the stanzas of the packages' copyright files; Spanish has none of its own and falls under `Files: *`.
_LICENSE = {
    "eng": "CC-BY-SA-3.0",
    "spa": "CC-BY-SA-3.0",
    "fra": "CC-BY-SA-3.0",
    "ita": "CC-BY-3.0",
    "rus": "CC-BY-3.0",
}
_FORTUNES = ("wisdom", "science", "computers", "literature", "platitudes", "education", "linux", "tao")
_SECONDS_PER_COMMAND = 600
_APT_OPTIONS = ("-q", "-o", "Acquire::Retries=1", "-o", "Acquire::http::Timeout=30")

_NOTE_LINE = re.compile(r"\s*([^\s:;]+)\s*:(.*)")
_STAGE_DIRECTION = re.compile(r"\([^)]*\)|<[^>]*>|\[[^\]\w]*\]")
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?=[A-Z])")
_PLAIN_SENTENCE = re.compile(r"[A-Z][A-Za-z0-9 ,;:'’-]*[A-Za-z0-9][.!?]")
_ATTRIBUTION = re.compile(r"\n\s*--")
_RUDE = re.compile(
    r"\b(sex\w*|damn\w*|hell|fuck\w*|shit\w*|bitch\w*|bastard\w*|whore\w*|naked|nude|rape\w*|kill\w*|murder\w*|suicid\w*"
    r"|nigg\w*|negro\w*|jews?|jewish|muslim\w*|hitler|nazi\w*|virgin\w*|breasts?|penis|crap\w*|piss\w*|ass|asshole\w*"
    r"|women|woman|girls?|wife|wives|idiots?|stupid|moron\w*|drunk\w*|gay|lesbian\w*|homosexual\w*|jesus|christ|god)\b",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Prompt:
    """One prompt spoken in one language."""

    prompt_id: str  # the same in every language
    text: str  # what is said, NFC, single spaces
    audio: Path  # .g722 at 64 kbit/s, or anything that soundfile reads


@dataclass(frozen=True)
class PromptCollection:
    """The same prompts in several languages, and sentences that none of them says."""

    prompts: Mapping[str, Mapping[str, Prompt]]  # ISO 639-3 → prompt id → prompt, only those with text and audio
    english: Mapping[str, str]  # prompt id → English transcript, also of prompts without audio
    distractors: Sequence[str]  # English sentences, sorted, none of them a prompt's transcript
    licenses: Mapping[str, str]  # ISO 639-3 → license of the recordings
    sources: Mapping[str, str]  # ISO 639-3 → where the recordings come from
    note: str  # what a reader of figures made from it must know


def fetch_prompts(cache: Path) -> PromptCollection:
    """The Asterisk prompts in `LANGUAGES` with transcripts, and distractors; what `cache` lacks is fetched into it.

    Prints one line for every package it downloads. Raises InputError where a package cannot be had or lacks its files.
    """
    packages = [f"asterisk-core-sounds-{code}{kind}" for code in _DEBIAN_CODE.values() for kind in ("", "-g722")]
    roots = {name: fetch_package(name, cache) for name in [*packages, "fortunes-min", "fortunes"]}
    prompts: dict[str, dict[str, Prompt]] = {}
    english: dict[str, str] = {}
    for lang, code in _DEBIAN_CODE.items():
        name = f"asterisk-core-sounds-{code}"
        notes = roots[name] / f"usr/share/doc/{name}/core-sounds-{code}.txt.gz"
        sounds = roots[f"{name}-g722"] / "usr/share/asterisk/sounds" / _VOICE_FOLDER[lang]
        texts = parse_transcripts(gzip.decompress(_read(notes)))
        files = {path.relative_to(sounds).with_suffix("").as_posix(): path for path in sorted(sounds.rglob("*.g722"))}
        prompts[lang] = {key: Prompt(key, texts[key], files[key]) for key in sorted(texts) if key in files}
        if not prompts[lang]:
            raise InputError(f"{sounds}: no .g722 file has a transcript in {notes}; remove {cache} to fetch again")
        if lang == "eng":
            english = texts
    folders = [roots[name] / "usr/share/games/fortunes" for name in ("fortunes-min", "fortunes")]
    return PromptCollection(
        prompts=prompts,
        english=english,
        distractors=distractor_sentences(_fortunes(folders), english.values()),
        licenses=_LICENSE,
        sources={lang: f"Debian package asterisk-core-sounds-{code}-g722" for lang, code in _DEBIAN_CODE.items()},
        note="Human speech: Asterisk voice prompts, one speaker per language.",
    )


def parse_transcripts(data: bytes) -> dict[str, str]:
    """Transcripts by prompt id from a `core-sounds-XX.txt`: lines `id: text`, comments behind `;`.

    Left out: lines without text, descriptions of sounds that are not speech (`[ascending tones]`), and lines whose text
    repeats the id, because there the text is not what is spoken. An id that comes twice keeps its first text: the
    second is a mistyped other id. A line that is not UTF-8 is read as Latin-1.
    """
    texts: dict[str, str] = {}
    for raw in data.removeprefix(b"\xef\xbb\xbf").splitlines():
        try:
            line = raw.decode("utf-8")
        except UnicodeDecodeError:
            line = raw.decode("latin-1")
        if line.lstrip().startswith(";"):
            continue
        match = _NOTE_LINE.fullmatch(line)
        if match is None or match[2].lstrip().startswith(f"{match[1]}:"):
            continue
        spoken = _spoken(match[2])
        if spoken and match[1] not in texts:
            texts[match[1]] = spoken
    return texts


def normalise(text: str) -> str:
    """Text in NFC with single spaces and none around it: the form in which texts are written and compared."""
    return " ".join(unicodedata.normalize("NFC", text).split())


def num_words(text: str) -> int:
    """Number of words of a text; `that's` and `voice-mail` are one word each."""
    return len(re.findall(r"\w+(?:['’-]\w+)*", text))


def distractor_sentences(blocks: Iterable[str], transcripts: Iterable[str]) -> list[str]:
    """Plain, harmless English sentences of 4 to 30 words out of blocks of prose, sorted, without any transcript."""
    taken = {normalise(text).casefold() for text in transcripts}
    found: dict[str, str] = {}
    for block in blocks:
        for sentence in _SENTENCE_END.split(normalise(block)):
            if _PLAIN_SENTENCE.fullmatch(sentence) and 4 <= num_words(sentence) <= 30 and not _RUDE.search(sentence):
                found.setdefault(sentence.casefold(), sentence)
    return sorted(sentence for key, sentence in found.items() if key not in taken)


def say(line: str) -> None:
    """Print a line of progress where it does not mix with a command's output."""
    print(line, file=sys.stderr, flush=True)


def run_command(command: Sequence[str], cwd: Path, purpose: str, hint: str) -> None:
    """Run a program quietly. Raises InputError with `purpose`, the last line of what it said, and `hint`."""
    try:
        done = subprocess.run(
            command,
            cwd=cwd,
            env={**os.environ, "LC_ALL": "C.UTF-8"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_SECONDS_PER_COMMAND,
            check=False,
        )
    except FileNotFoundError:
        raise InputError(f"{purpose}: the program {command[0]} is not installed; {hint}") from None
    except subprocess.TimeoutExpired:
        raise InputError(f"{purpose}: {command[0]} took over {_SECONDS_PER_COMMAND} seconds; {hint}") from None
    if done.returncode:
        said = (done.stderr or done.stdout).decode("utf-8", errors="replace").split("\n")
        lines = [line.strip() for line in said if line.strip()]
        # apt and pip end with general advice; the line that begins with the word of an error is the cause
        causes = [line for line in lines if line.startswith(("E:", "ERROR:", "dpkg-deb: error"))] or lines[-1:]
        cause = causes[0] if causes else f"exit status {done.returncode}"
        raise InputError(f"{purpose}: {cause.rstrip('.')}; {hint}")


def into_cache(made: Path, target: Path) -> Path:
    """Move a finished folder to its place in the cache. One that another process put there meanwhile is as good."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        made.rename(target)
    except OSError as error:
        if not target.is_dir():
            raise InputError(f"{target}: {error.strerror}; choose another cache folder") from error
    return target


def open_cache(cache: Path) -> Path:
    """The cache folder as an absolute path, made where it is not there. Raises InputError where it cannot be made."""
    try:
        cache.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cache folder {cache}: {error.strerror}; choose another") from error
    return cache.absolute()


def fetch_package(package: str, cache: Path) -> Path:
    cache = open_cache(cache)
    target = cache / "debian" / package
    if target.is_dir():
        return target
    say(f"fetching the Debian package {package}")
    with tempfile.TemporaryDirectory(dir=cache, prefix=".fetching-") as name:
        folder = Path(name)
        folder.chmod(0o755)  # apt's own user may have to write here
        _apt_download(package, folder, cache)
        archives = sorted(folder.glob("*.deb"))
        if len(archives) != 1:
            raise InputError(f"Debian package {package}: apt-get left {len(archives)} archives where one was expected")
        purpose = f"Debian package {package} cannot be unpacked"
        run_command(["dpkg-deb", "-x", str(archives[0]), "unpacked"], folder, purpose, "try again")
        return into_cache(folder / "unpacked", target)


def _apt_download(package: str, folder: Path, cache: Path) -> None:
    """Download with the machine's package lists, or, where it has none, with lists fetched into the cache."""
    purpose = f"Debian package {package} cannot be fetched"
    hint = "run `apt-get update` once, or take the source 'espeak', which needs no Debian packages"
    command = ["apt-get", *_APT_OPTIONS]
    own = cache / "apt"
    own_lists = ["-o", f"Dir::State::lists={own}/lists", "-o", f"Dir::Cache={own}/cache"]
    if (own / "fetched").exists():
        run_command([*command, *own_lists, "download", package], folder, purpose, hint)
        return
    try:
        run_command([*command, "download", package], folder, purpose, hint)
    except InputError as error:
        if not any(cause in str(error) for cause in ("Unable to locate package", "no candidate", "404")):
            raise
        say("this machine's package lists lack it or are out of date: fetching Debian's lists into the cache")
        for part in ("lists/partial", "cache/archives/partial"):
            (own / part).mkdir(parents=True, exist_ok=True)
        run_command([*command, *own_lists, "update"], folder, purpose, hint)
        run_command([*command, *own_lists, "download", package], folder, purpose, hint)
        (own / "fetched").touch()  # only now: `update` ends well without a network, too


def _spoken(text: str) -> str:
    """What is said of a transcript's line: without stage directions, marks of emphasis and stray quotes."""
    text = text.replace("\\'", "'")
    if re.fullmatch(r"\s*\[.*\]\s*", text):  # a sound such as [ascending tones]
        return ""
    text = _STAGE_DIRECTION.sub(" ", text)
    text = re.sub(r'["“”\[\]]', "", text)  # words in brackets are spoken: "Spiacente, [quello] non è valido"
    text = normalise(text)
    return text if re.search(r"\w", text) else ""


def _fortunes(folders: Iterable[Path]) -> Iterable[str]:
    """The sayings of the harmless collections, without the line that says whose they are."""
    texts = {path.name: path for folder in folders for path in folder.iterdir() if path.name in _FORTUNES}
    for name in _FORTUNES:
        if name not in texts:
            raise InputError(f"Debian packages fortunes and fortunes-min: the collection {name} is not in them")
        for saying in re.split(r"^%\s*$", _read(texts[name]).decode("utf-8", errors="replace"), flags=re.MULTILINE):
            yield _ATTRIBUTION.split(saying)[0]


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}; remove the folder it is in to fetch the package again") from error
