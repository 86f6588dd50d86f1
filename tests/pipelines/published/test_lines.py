"""Published lines: every column of every form, and every way in which a line can be wrong."""

import gzip
import lzma
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seamlessalign.errors import ConfigError, InputError, UnreadableError
from seamlessalign.languages import Side, all_languages
from seamlessalign.pipelines.published.line_forms import (
    COLUMNS,
    Form,
    MetadataLine,
    form_of,
    parse_line,
    published_code,
    side_of,
    sides_of,
    tsv_line,
)
from seamlessalign.pipelines.published.lines import BadLine, read_lines

WET = "crawl-data/CC-MAIN-2019-13/segments/155.57/wet/CC-MAIN-20190322155929-20190322181929-00227.warc.wet.gz"
SHA = "sha1:QHK6O25L7BAZVTSVWH6KFXCJA7WSTVMJ"
SPEECH = (
    "CC-MAIN-2022-21:2962\t\thttp://a.example/4/24/8.mp3 3624960 3705312\t\t378.576\t0\t0.0\t1.1922385\teng-zhA\t"
    "zhA\t866"
)
TEXT = (
    f"{WET}\t{SHA}\thttp://b.example/2007/06/is-not.html\t7\t10105196188100455272\t10825353432255915926\t0.99567\t"
    "1.1922385\teng-zhA\teng\t866"
)
EXPRESSIVE = "deA-enA enA 12 CC-MAIN-2022-05:77 1800.25 https://c.example/x.mp3 160000 240000 1.3125"
SPEECH_LINE = MetadataLine(
    "CC-MAIN-2022-21:2962", "", "http://a.example/4/24/8.mp3", 3624960, 3705312, None, None, 378.576, None, 0.0,
    1.1922385, "eng-zhA", "zhA", 866,
)  # fmt: skip
TEXT_LINE = MetadataLine(
    WET, SHA, "http://b.example/2007/06/is-not.html", None, None, 7, 10105196188100455272, None, 10825353432255915926,
    0.99567, 1.1922385, "eng-zhA", "eng", 866,
)  # fmt: skip


def _columns(line: str, **changed: str) -> str:
    names = ("warc", "sha", "place", "lineno", "paragraph", "sentence", "lid", "score", "direction", "side", "number")
    values = dict(zip(names, line.split("\t"), strict=True)) | changed
    return "\t".join(values[name] for name in names)


class TestForms:
    def test_seamlessalign(self) -> None:
        assert parse_line(SPEECH, "seamlessalign") == SPEECH_LINE
        assert parse_line(TEXT, "seamlessalign") == TEXT_LINE
        assert (SPEECH_LINE.is_audio, SPEECH_LINE.lang, TEXT_LINE.lang) == (True, "cmn", "eng")
        assert (SPEECH_LINE.is_from_common_crawl, TEXT_LINE.is_from_common_crawl) == (False, True)

    def test_nllb_and_what_becomes_of_the_other_without_its_tabs(self) -> None:
        assert parse_line(TEXT.replace("\t", " "), "nllb") == TEXT_LINE
        assert parse_line(SPEECH.replace("\t", " "), "nllb") == SPEECH_LINE
        other = parse_line("xlsum.hau_Latn - - 41 12 18 1.0 1.07 eng_Latn-hau_Latn hau_Latn 5", "nllb")
        assert (other.cc_warc, other.cc_sha, other.url, other.cc_lineno, other.lang) == (
            "xlsum.hau_Latn",
            "-",
            "-",
            41,
            "hau",
        )
        assert not other.is_from_common_crawl

    def test_expressive(self) -> None:
        line = parse_line(EXPRESSIVE, "expressive")
        assert line == MetadataLine(
            "CC-MAIN-2022-05:77", "", "https://c.example/x.mp3", 160000, 240000, None, None, 1800.25, None, None,
            1.3125, "deA-enA", "enA", 12,
        )  # fmt: skip

    def test_the_form_is_told_by_the_lines(self) -> None:
        assert form_of([TEXT]) == form_of([SPEECH]) == "seamlessalign"
        assert form_of(["nothing", TEXT.replace("\t", " ")]) == "nllb"
        assert form_of([EXPRESSIVE]) == "expressive"
        assert form_of(["a b c", "x"]) is None

    @pytest.mark.parametrize("address", ["http://a.example/my talk.mp3", "http://a.example/my%20talk%09.mp3", "a 1 2"])
    def test_addresses_are_taken_as_they_are(self, address: str) -> None:
        assert parse_line(_columns(SPEECH, place=f"{address} 10 20"), "seamlessalign").url == address
        assert parse_line(EXPRESSIVE.replace("https://c.example/x.mp3", address), "expressive").url == address

    @pytest.mark.parametrize("absent", ["", "-", "NULL", "None", "\\N"])
    def test_nothing_is_none_in_numbers_and_as_written_in_texts(self, absent: str) -> None:
        changed = _columns(TEXT, sha=absent, lineno=absent, paragraph=absent, sentence=absent, lid=absent, score=absent)
        line = parse_line(changed, "seamlessalign")
        assert line.cc_sha == absent
        numbers = (line.cc_lineno, line.paragraph_digest, line.sentence_digest, line.text_lid_score, line.laser_score)
        assert numbers == (None,) * 5

    def test_a_duration_of_nothing_is_unknown(self) -> None:
        assert parse_line(_columns(SPEECH, paragraph="0"), "seamlessalign").duration is None
        assert parse_line(_columns(SPEECH, paragraph="378,576"), "seamlessalign").duration == 378.576

    @pytest.mark.parametrize(
        ("line", "reason"),
        [
            ("one\ttwo", "columns"),
            (TEXT + "\t", "columns"),
            (_columns(TEXT, direction="engzhA"), "direction"),
            (_columns(TEXT, direction="eng-zhA-fra"), "direction"),
            (_columns(TEXT, direction="eng-qqqA"), "unknown_language"),
            (_columns(TEXT, side="fra"), "side_not_in_direction"),
            (_columns(TEXT, number=""), "not_a_number"),
            (_columns(TEXT, number="-4"), "not_a_number"),
            (_columns(TEXT, number="1.5"), "not_a_number"),
            (_columns(TEXT, sentence=str(1 << 64)), "not_a_number"),
            (_columns(TEXT, paragraph="12a"), "not_a_number"),
            (_columns(TEXT, score="nan"), "not_a_number"),
            (_columns(TEXT, score="1e999"), "not_a_number"),
            (_columns(TEXT, lineno="٣"), "not_a_number"),
            (_columns(SPEECH, place="http://a.example/8.mp3"), "no_frames"),
            (_columns(SPEECH, place="http://a.example/8.mp3 12"), "no_frames"),
            (_columns(SPEECH, place=" 12 14"), "no_frames"),
            (_columns(SPEECH, place="http://a.example/8.mp3 -2 14"), "frames_reversed"),
            (_columns(SPEECH, place="http://a.example/8.mp3 14 2"), "frames_reversed"),
            (_columns(SPEECH, place="http://a.example/8.mp3 14 14"), "frames_reversed"),
            (_columns(SPEECH, place="http://a.example/8.mp3 1 99999999999999999999"), "frames_reversed"),
            ("\t".join(COLUMNS), "header"),
        ],
    )
    def test_what_is_wrong_has_a_reason(self, line: str, reason: str) -> None:
        with pytest.raises(UnreadableError) as error:
            parse_line(line, "seamlessalign")
        assert error.value.reason == reason

    @given(
        st.text(st.characters(exclude_characters="\t\n\r", exclude_categories=["Cs"])),
        st.integers(0, (1 << 64) - 1),
        st.integers(0, 1 << 40),
        st.integers(1, 1 << 40),
        st.floats(0, 5, allow_nan=False),
        st.booleans(),
    )
    def test_what_is_written_is_read(
        self, text: str, digest: int, frame: int, length: int, score: float, speech: bool
    ) -> None:
        address = text.strip() or "x"
        line = replace(SPEECH_LINE, cc_warc=text, url=address, start_frame=frame, end_frame=frame + length)
        line = replace(line, duration=length / 16_000, text_lid_score=score, laser_score=score, line_no=length)
        if not speech:
            line = replace(line, start_frame=None, end_frame=None, duration=None, side="eng", cc_lineno=frame)
            line = replace(line, paragraph_digest=digest, sentence_digest=digest ^ 1)
        assert parse_line(tsv_line(line).removesuffix("\n"), "seamlessalign") == line

    def test_a_tab_cannot_be_written(self) -> None:
        with pytest.raises(ValueError, match="cc_warc"):
            tsv_line(replace(SPEECH_LINE, cc_warc="a\tb"))


class TestSides:
    def test_the_published_names_of_romanian_and_tagalog(self) -> None:
        assert side_of("rnA") == Side("ron", is_audio=True)
        assert side_of("tgA") == Side("tgl", is_audio=True)
        assert sides_of("eng_Latn-fra_Latn") == ("eng_Latn", "fra_Latn")

    def test_every_language_comes_back(self) -> None:
        for language in all_languages():
            for is_audio in (False, True):
                side = Side(language.iso639_3, is_audio)
                assert side_of(published_code(side)) == side

    def test_an_unknown_one_is_told(self) -> None:
        with pytest.raises(ConfigError, match="qqq"):
            side_of("qqq")


class TestFiles:
    @pytest.mark.parametrize("packing", ["plain", "gzip", "xz", "gzip of two members"])
    @pytest.mark.parametrize("form", ["seamlessalign", "nllb", "expressive"])
    def test_every_packing_of_every_form(self, packing: str, form: Form, tmp_path: Path) -> None:
        lines = [EXPRESSIVE] * 4 if form == "expressive" else [TEXT, SPEECH] * 2
        lines = [line.replace("\t", " ") for line in lines] if form == "nllb" else lines
        data = ("\n".join(lines) + "\n").encode()
        half = data.index(b"\n") + 5
        packed = {
            "plain": data,
            "gzip": gzip.compress(data),
            "xz": lzma.compress(data),
            "gzip of two members": gzip.compress(data[:half]) + gzip.compress(data[half:]),
        }
        file = tmp_path / "any.name"
        file.write_bytes(packed[packing])
        expected = [parse_line(line, form) for line in lines]
        assert list(read_lines(str(file))) == list(enumerate(expected, 1))

    def test_bad_lines_keep_their_numbers(self, tmp_path: Path) -> None:
        lines = ["\ufeff" + TEXT, "", "x\ty", SPEECH + "\r", SPEECH + "\xff" * (1 << 20), SPEECH]
        data = [line.encode() for line in lines]
        data.insert(3, SPEECH.encode().replace(b"a.example", b"\xff"))
        file = tmp_path / "lines.tsv"
        file.write_bytes(b"\n".join(data))  # no end of line behind the last
        read = list(read_lines(str(file)))
        kinds = [(number, line.reason if isinstance(line, BadLine) else line) for number, line in read]
        assert kinds == [
            (1, TEXT_LINE), (2, "blank_line"), (3, "columns"), (4, "invalid_utf8"), (5, SPEECH_LINE), (6, "too_long"),
            (7, SPEECH_LINE),
        ]  # fmt: skip

    @pytest.mark.parametrize("pack", [gzip.compress, lzma.compress])
    def test_a_file_that_breaks_off_gives_what_it_has(self, pack: Callable[[bytes], bytes], tmp_path: Path) -> None:
        numbered = [_columns(TEXT, number=str(number), place=f"http://{math.sin(number)}") for number in range(5000)]
        data = pack("\n".join(numbered).encode())
        file = tmp_path / "lines"
        file.write_bytes(data[: len(data) // 2])
        read = [line for _, line in read_lines(str(file))]
        last = read.pop()
        assert isinstance(last, BadLine)
        assert last.reason == "truncated"
        assert 100 < len(read) < 5000
        assert read == [parse_line(line, "seamlessalign") for line in numbered[: len(read)]]

    def test_a_damaged_one_too(self, tmp_path: Path) -> None:
        data = bytearray(gzip.compress((TEXT + "\n").encode() * 50))
        data[-6] ^= 1  # of the checksum
        (tmp_path / "lines").write_bytes(data)
        assert [line.reason for _, line in read_lines(str(tmp_path / "lines")) if isinstance(line, BadLine)] == [
            "damaged"
        ]

    def test_what_is_no_metadata_is_told_at_once(self, tmp_path: Path) -> None:
        (tmp_path / "other").write_text("some other table\n")
        with pytest.raises(InputError, match="in none of the forms"):
            list(read_lines(str(tmp_path / "other")))
        with pytest.raises(InputError, match="cannot be read"):
            list(read_lines(str(tmp_path / "nothing")))
        (tmp_path / "empty").write_bytes(b"")
        with pytest.raises(InputError, match="is empty"):
            list(read_lines(str(tmp_path / "empty")))
