"""The sections of a report on languages: hours of each, and which were told where they are known."""

from collections import Counter
from collections.abc import Sequence

from seamlessalign.charts import Bar, horizontal_bars
from seamlessalign.html_page import Row, row_of, table_of
from seamlessalign.markup import Markup, join, tag
from seamlessalign.pipelines.known_languages import MIXED, NO_SPEECH, UNCERTAIN, Confusion
from seamlessalign.pipelines.report_numbers import LanguageHours, RunNumbers
from seamlessalign.pipelines.report_parts import hours, with_options
from seamlessalign.rows import SAMPLE_RATE

_SHOWN_LANGUAGES = 30  # bars in the chart; the table beside it has all
_MOST_COLUMNS = 12  # of the table of confusions; what is told more rarely is `others`
_MOST_CONFUSIONS = 40  # pairs of languages that are listed
_LAST = (MIXED, UNCERTAIN, NO_SPEECH)  # columns behind all languages
_OTHERS = "others"


def languages_section(numbers: RunNumbers) -> list[Markup]:
    """Hours of speech by language as bars, and a table of recordings, speech, spans and sentences."""
    languages = numbers.languages or {}
    spans, sentences = numbers.spans or {}, numbers.sentences or {}
    names = sorted(
        languages.keys() | spans.keys() | sentences.keys(),
        key=lambda name: (-languages.get(name, LanguageHours()).speech, name),
    )
    if not names:
        return []
    spoken = [name for name in names if name in languages][:_SHOWN_LANGUAGES]
    bars = []
    for name in spoken:
        item = languages[name]
        kept, rest = item.speech_kept / SAMPLE_RATE / 3600, item.speech_dropped / SAMPLE_RATE / 3600
        title = f"{name or 'unknown'}: {hours(item.speech_kept)} kept, {hours(item.speech_dropped)} dropped"
        bars.append(Bar(name or "unknown", kept, rest, hours(item.speech), title))
    left = []
    if bars:
        legend = tag("p", tag("span", "kept"), tag("span", "dropped", class_="rest"), class_="legend")
        chart = horizontal_bars(bars, title="Hours of speech by language", x_label="hours of speech", label_width=64)
        left = [chart, legend]
    rows = []
    for name in names:
        item = languages.get(name, LanguageHours())
        rows.append(
            row_of(
                name or "unknown",
                f"{item.recordings:,}",
                hours(item.speech) if item.recordings else "–",
                f"{spans[name]:,}" if name in spans else "–",
                f"{sentences[name]:,}" if name in sentences else "–",
            )
        )
    table = table_of(("language", "recordings", "speech", "spans", "sentences"), rows, numeric=(1, 2, 3, 4))
    return [tag("div", tag("div", *left), tag("div", table), class_="columns")]


def confusion_section(confusion: Confusion | None) -> list[Markup]:
    """Known languages by told ones, in recordings and hours of speech; how to have it where nothing is known."""
    if confusion is None:
        told = (
            "Where you know the languages of recordings, give them to the report, with --languages LIST.jsonl, or "
            "have a run hear recordings of stated language too, with speech.lid.check_stated: true."
        )
        return [tag("p", *with_options(told), class_="note")]
    notes = _left_out(confusion)
    if not confusion.recordings:
        return [tag("p", notes or "No recording of a known language was heard.", class_="note")]
    known, told_languages = _axes(confusion)
    shown = set(told_languages)
    head = ("known", *told_languages, "speech", "right")
    rows: list[Row] = []
    for lang in known:
        cells = [_cell(confusion, lang, [name], lang == name) for name in told_languages if name != _OTHERS]
        if _OTHERS in shown:
            rest = sorted({told for one, told in confusion.recordings if one == lang} - shown)
            cells.append(_cell(confusion, lang, rest, lang in rest))
        speech = sum(samples for (one, _), samples in confusion.speech.items() if one == lang)
        all_of = sum(number for (one, _), number in confusion.recordings.items() if one == lang)
        rows.append(row_of(lang, *cells, hours(speech), f"{confusion.recordings[lang, lang] / all_of:.1%}"))
    right = sum(number for (one, told), number in confusion.recordings.items() if one == told)
    right_speech = sum(samples for (one, told), samples in confusion.speech.items() if one == told)
    whole, speech = confusion.recordings.total(), confusion.speech.total()
    facts = [
        tag("b", f"{right:,}", data_number="languages right"), f" of {whole:,} recordings, and ",
        tag("b", hours(right_speech)), f" of {hours(speech)} of their speech, were told to be in the language that is "
        "known.",
    ]  # fmt: skip
    how = "Rows are what is known and columns what was told: recordings, and below them their speech."
    pieces = [tag("p", *facts, class_="about"), tag("p", how, class_="note")]
    pieces.append(table_of(head, rows, numeric=range(1, len(head))))
    pieces += _confusions(confusion)
    if notes:
        pieces.append(tag("p", notes, class_="note"))
    return pieces


def _axes(confusion: Confusion) -> tuple[list[str], list[str]]:
    """Rows, and columns of the table: those with most speech, in the order of the rows where they are in both."""
    known, told = Counter[str](), Counter[str]()
    for (one, other), number in confusion.recordings.items():
        known[one] += number
        told[other] += number
    rows = sorted(known, key=lambda lang: (-known[lang], lang))
    ranked = sorted(told, key=lambda lang: (lang not in known, -told[lang], lang))
    languages = [lang for lang in ranked if lang not in _LAST]
    columns = [lang for lang in rows if lang in languages[:_MOST_COLUMNS]]
    columns += [lang for lang in languages[:_MOST_COLUMNS] if lang not in columns]
    columns += [_OTHERS] if len(languages) > _MOST_COLUMNS else []
    return rows, columns + [lang for lang in _LAST if lang in told]


def _cell(confusion: Confusion, known: str, told: Sequence[str], right: bool) -> Markup:
    number = sum(confusion.recordings[known, lang] for lang in told)
    if not number:
        return tag("span", "·", class_="none")
    samples = sum(confusion.speech[known, lang] for lang in told)
    count = tag("b" if right else "span", f"{number:,}")
    return join(count, tag("small", hours(samples), class_="below"))


def _confusions(confusion: Confusion) -> list[Markup]:
    """The wrong answers one by one, where there are so many languages that the table does not show them all."""
    _, columns = _axes(confusion)
    if _OTHERS not in columns:
        return []
    wrong = sorted(
        ((known, told) for known, told in confusion.recordings if known != told),
        key=lambda both: (-confusion.speech[both], both),
    )
    rows = [
        row_of(known, told, f"{confusion.recordings[known, told]:,}", hours(confusion.speech[known, told]))
        for known, told in wrong[:_MOST_CONFUSIONS]
    ]
    pieces = [
        tag("h3", "Most speech in the wrong language"),
        table_of(("known", "told", "recordings", "speech"), rows, numeric=(2, 3)),
    ]
    if len(wrong) > len(rows):
        pieces.append(tag("p", f"{len(wrong) - len(rows):,} more pairs of languages are not shown.", class_="note"))
    return pieces


def _left_out(confusion: Confusion) -> str:
    told = []
    if confusion.unknown:
        told.append(f"{confusion.unknown:,} of which no language is known")
    if confusion.stated:
        told.append(f"{confusion.stated:,} whose language the input stated, so that nobody was asked")
    if confusion.absent:
        told.append(f"{confusion.absent:,} that are known and are not in this run")
    return f"Recordings that are not counted: {'; '.join(told)}." if told else ""
