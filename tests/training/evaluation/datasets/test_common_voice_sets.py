"""CoVoST 2 and CVSS: translations of clips, joined with what Common Voice says of them."""

from pathlib import Path

import pytest

from seamlessalign.errors import ConfigError, InputError
from seamlessalign.languages import find_language
from seamlessalign.training.evaluation.datasets.choice import Read, Wanted
from seamlessalign.training.evaluation.datasets.covered import COVOST_FROM_ENGLISH, COVOST_TO_ENGLISH, CVSS
from seamlessalign.training.evaluation.datasets.covost import read_covost
from seamlessalign.training.evaluation.datasets.cvss import read_cvss
from tests.training.evaluation.datasets.layouts import common_voice, hertz_of, tone

FRENCH = {"fr_1.mp3": "Bonjour.", "fr_2.mp3": 'Il a dit \\"NA\\".', "fr_3.mp3": "Bonjour.", "fr_5.mp3": "Non."}
SWEDISH = {"sv-SE_1.mp3": "Hej."}
# in the file itself: `\` stands before quotes
FR_EN = [
    ("fr_2.mp3", 'He said \\"NA\\".', "test"),
    ("fr_1.mp3", "Hello.", "test"),
    ("fr_3.mp3", "NA", "test"),
    ("fr_4.mp3", "Gone.", "test"),  # which Common Voice lacks
    ("fr_5.mp3", "No.", "train_covost"),
    ("fr_9.mp3", "Train.", "train"),
]


def _wanted(directions: str | list[str], task: str = "s2tt", split: str = "test", **more: object) -> Wanted:
    return Wanted(split, task, directions, **more)  # type: ignore[arg-type]


def _balances(read: Read) -> bool:
    return read.entries == len(read.rows) + sum(read.set_aside.values())


@pytest.fixture
def covost(tmp_path: Path) -> Path:
    root = common_voice(common_voice(tmp_path, "fr", FRENCH), "sv-SE", SWEDISH, 2000)
    lines = ["path\ttranslation\tsplit", *("\t".join(row) for row in FR_EN)]
    (root / "covost_v2.fr_en.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (root / "sv-SE/covost_v2.sv-SE_en.test.tsv").write_text(
        "path\tsentence\ttranslation\tclient_id\nsv-SE_1.mp3\tHej.\tHi.\tx\n", encoding="utf-8"
    )
    return root


class TestCovost:
    def test_translations_meet_their_clips(self, covost: Path) -> None:
        read = read_covost(str(covost), _wanted("x-eng"))
        assert [(row.id, row.src_text, row.references[0]) for row in read.rows] == [
            ("fra-eng/fr_2", 'Il a dit "NA".', 'He said "NA".'),
            ("fra-eng/fr_1", "Bonjour.", "Hello."),
            ("fra-eng/fr_3", "Bonjour.", "NA"),
            ("swe-eng/sv-SE_1", "Hej.", "Hi."),
        ]
        assert (read.entries, dict(read.set_aside)) == (5, {"not_in_common_voice": 1})
        assert [hertz_of(row) for row in read.rows] == [1100, 1000, 1200, 2000]
        assert read.rows[1].group == read.rows[2].group != read.rows[0].group
        assert read.notes == ["2 of the 36 directions of CoVoST 2 are there"]

    def test_training_has_more_than_common_voice_s_split(self, covost: Path) -> None:
        read = read_covost(str(covost), _wanted(["fr-en"], split="train"))
        assert [row.id for row in read.rows] == ["fra-eng/fr_5"]
        assert dict(read.set_aside) == {"not_in_common_voice": 1}
        with pytest.raises(InputError, match="has no sv-en, but fra-eng"):
            read_covost(str(covost), _wanted(["sv-en"], split="train"))  # its table is of one split, test

    def test_transcripts(self, covost: Path) -> None:
        read = read_covost(str(covost), _wanted("all", "asr"))
        assert [(row.direction, row.references[0]) for row in read.rows] == [
            ("fra-fra", 'Il a dit "NA".'),
            ("fra-fra", "Bonjour."),
            ("fra-fra", "Bonjour."),
            ("swe-swe", "Hej."),
        ]
        assert _balances(read)
        assert len(read_covost(str(covost), _wanted(["swe"], "asr")).rows) == 1

    def test_common_voice_may_lie_elsewhere(self, covost: Path, tmp_path: Path) -> None:
        other = tmp_path / "other"
        other.mkdir()
        (covost / "covost_v2.fr_en.tsv").rename(other / "covost_v2.fr_en.tsv")
        with pytest.raises(
            InputError, match=r"no validated.tsv of Common Voice 4 \(fr\): give its folder as rows.common_v"
        ):
            read_covost(str(other), _wanted("x-eng"))
        read = read_covost(str(other), _wanted("x-eng"), str(covost))
        assert len(read.rows) == 3
        assert read.without_sound == 0

    def test_what_cannot_be(self, covost: Path) -> None:
        with pytest.raises(ConfigError, match="no speech of translations; it serves asr, s2tt, t2tt"):
            read_covost(str(covost), _wanted("all", "s2st"))
        with pytest.raises(InputError, match=r"has no tables such as covost_v2.fr_en.tsv"):
            read_covost(str(covost / "fr"), _wanted("all"))
        with pytest.raises(InputError, match="has no en-de, but fra-eng, swe-eng"):
            read_covost(str(covost), _wanted(["en-de"]))
        with pytest.raises(InputError, match="has no fr-sv, but fra-eng, swe-eng"):  # nor is fr-en taken for it
            read_covost(str(covost), _wanted(["fr-sv"]))
        with pytest.raises(InputError, match="has no direction that is wanted: eng-x"):
            read_covost(str(covost), _wanted("eng-x"))
        table = covost / "covost_v2.fr_en.tsv"
        whole = table.read_text()
        table.write_text(whole.replace("split", "part", 1))
        with pytest.raises(InputError, match="has no column split, but path, translation, part"):
            read_covost(str(covost), _wanted(["fr-en"]))
        table.write_text(whole.replace("\ttest", "", 1))
        with pytest.raises(InputError, match="line 2: has 2 values for 3 columns"):
            read_covost(str(covost), _wanted(["fr-en"]))
        table.write_text(whole + "fr_1.mp3\tagain\ttest\n")
        with pytest.raises(InputError, match="fra-eng: fr_1 is there more than once"):
            read_covost(str(covost), _wanted(["fr-en"]))

    def test_languages(self) -> None:
        to, out = ({find_language(code).iso639_3 for code in some} for some in (COVOST_TO_ENGLISH, COVOST_FROM_ENGLISH))
        assert (len(to), len(out)) == (21, 15)
        assert out < to
        assert {find_language(code).iso639_3 for code in CVSS} == to


class TestCvss:
    @pytest.fixture
    def cvss(self, tmp_path: Path) -> Path:
        common_voice(tmp_path / "cv", "fr", FRENCH)
        common_voice(tmp_path / "cv", "sv-SE", SWEDISH, 2000)
        for folder, clips in (("cvss_c_fr_en_v1.0", ["fr_2.mp3", "fr_1.mp3", "fr_4.mp3"]), ("sv_en", ["sv-SE_1.mp3"])):
            rows = []
            for number, clip in enumerate(clips):
                tone(tmp_path / "cvss" / folder / "test" / f"{clip}.wav", 3000 + 100 * number)
                rows.append(f'{clip}\tit says "{number}"\n')
            (tmp_path / "cvss" / folder / "test.tsv").write_text("".join(rows), encoding="utf-8")
        return tmp_path

    def test_speech_meets_speech(self, cvss: Path) -> None:
        read = read_cvss(str(cvss / "cvss"), _wanted("x-eng", "s2st"), str(cvss / "cv"))
        assert [(row.id, row.src_text, row.references[0]) for row in read.rows] == [
            ("fra-eng/fr_2", 'Il a dit "NA".', 'it says "0"'),
            ("fra-eng/fr_1", "Bonjour.", 'it says "1"'),
            ("fra-eng/fr_4", None, 'it says "2"'),
            ("swe-eng/sv-SE_1", "Hej.", 'it says "0"'),
        ]
        assert (read.entries, read.without_sound, read.without_target_sound) == (4, 1, 0)
        pairs = [(hertz_of(row), hertz_of(row, reference=True)) for row in read.rows if row.src_sound]
        assert pairs == [(1100, 3000), (1000, 3100), (2000, 3000)]
        (cvss / "cvss/sv_en/test/sv-SE_1.mp3.wav").unlink()
        assert read_cvss(str(cvss / "cvss"), _wanted(["swe-eng"], "s2st")).without_target_sound == 1

    def test_what_cannot_be(self, cvss: Path) -> None:
        root = cvss / "cvss"
        with pytest.raises(ConfigError, match="CVSS serves s2st, s2tt"):
            read_cvss(str(root), _wanted("x-eng", "t2tt"))
        with pytest.raises(InputError, match="has no folders of CVSS such as fr_en"):
            read_cvss(str(root), _wanted("x-eng", "s2st", "dev"))
        (root / "fr_en").mkdir()
        (root / "fr_en/test.tsv").write_text("fr_1.mp3\n")
        with pytest.raises(InputError, match=r"has fr_en and cvss_c_fr_en_v1.0: give CVSS-C or CVSS-T its own"):
            read_cvss(str(root), _wanted("x-eng", "s2st"))
        (root / "cvss_c_fr_en_v1.0/test.tsv").unlink()
        with pytest.raises(InputError, match=r"test.tsv line 1: is no clip and its translation, but 1 values"):
            read_cvss(str(root), _wanted("x-eng", "s2st"))
