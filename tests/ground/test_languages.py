"""The table of languages against the lists of the models themselves, and directions there and back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seamlessalign.errors import ConfigError
from seamlessalign.languages import (
    CodeSystem,
    Direction,
    Language,
    Side,
    all_languages,
    find_language,
    from_model_code,
    get_language,
    to_model_code,
)

SYSTEMS: list[CodeSystem] = ["iso639_3", "iso639_1", "whisper", "voxlingua", "fasttext", "sonar"]

# In the order of the names in VoxLingua107's own list (Valk and Alumäe 2021).
_VOXLINGUA107 = """
ab af am ar as az ba be bg bn bo br bs ca ceb cs cy da de el en eo es et eu fa fi fo fr gl gn gu gv ha haw hi hr ht hu
hy ia id is it iw ja jw ka kk km kn ko la lb ln lo lt lv mg mi mk ml mn mr ms mt my ne nl nn no oc pa pl ps pt ro ru sa
sco sd si sk sl sn so sq sr su sv sw ta te tg th tk tl tr tt uk ur uz vi war yi yo zh
"""
VOXLINGUA107 = _VOXLINGUA107.split()

languages = st.sampled_from(all_languages())


@st.composite
def directions(draw: st.DrawFn) -> Direction:
    """Two languages, at least one of them spoken."""
    src, tgt = draw(st.lists(languages, min_size=2, max_size=2, unique=True))
    spoken = draw(st.sampled_from([(True, True), (True, False), (False, True)]))
    return Direction(Side(src.iso639_3, spoken[0]), Side(tgt.iso639_3, spoken[1]))


@pytest.mark.parametrize("system", SYSTEMS)
def test_a_code_means_one_language_in_each_system(system: CodeSystem) -> None:
    codes = [code for language in all_languages() if (code := getattr(language, system))]
    assert len(codes) == len(set(codes))


def test_codes_look_like_their_system() -> None:
    for language in all_languages():
        assert len(language.iso639_3) == 3 and language.iso639_3.isalpha() and language.iso639_3.islower()
        assert len(language.iso639_1) in (0, 2)
        assert language.name
        assert not language.sonar or (language.sonar[3] == "_" and len(language.sonar) == 8)


def test_every_language_of_whisper_is_in_the_table() -> None:
    whisper = pytest.importorskip("transformers.models.whisper.tokenization_whisper").LANGUAGES
    assert len(whisper) == 100
    assert {code for code in whisper if from_model_code(code, "whisper") is None} == set()
    assert {language.whisper for language in all_languages() if language.whisper} == set(whisper)


def test_every_language_of_voxlingua107_is_in_the_table() -> None:
    assert len(VOXLINGUA107) == len(set(VOXLINGUA107)) == 107
    assert {code for code in VOXLINGUA107 if from_model_code(code, "voxlingua") is None} == set()
    assert {language.voxlingua for language in all_languages() if language.voxlingua} == set(VOXLINGUA107)


@pytest.mark.parametrize(
    ("system", "code", "lang"),
    [
        ("voxlingua", "iw", "heb"),
        ("voxlingua", "jw", "jav"),
        ("whisper", "he", "heb"),
        ("whisper", "jw", "jav"),
        ("whisper", "zh", "cmn"),
        ("whisper", "yue", "yue"),
        ("fasttext", "zh", "cmn"),
        ("voxlingua", "no", "nob"),
        ("sonar", "zho_Hans", "cmn"),
    ],
)
def test_codes_that_models_write_in_their_own_way(system: CodeSystem, code: str, lang: str) -> None:
    assert from_model_code(code, system) == lang
    assert to_model_code(lang, system) == code


@given(languages, st.sampled_from(SYSTEMS))
def test_model_codes_go_there_and_back(language: Language, system: CodeSystem) -> None:
    code = to_model_code(language.iso639_3, system)
    assert code is None or from_model_code(code, system) == language.iso639_3


def test_a_code_that_a_model_does_not_have_is_none() -> None:
    assert from_model_code("xx", "whisper") is None
    assert from_model_code("", "sonar") is None
    assert to_model_code("zul", "whisper") is None


@given(directions())
def test_directions_go_there_and_back(direction: Direction) -> None:
    assert Direction.parse(str(direction)) == direction


@pytest.mark.parametrize(
    ("text", "src", "tgt"),
    [
        ("eng-frA", Side("eng", False), Side("fra", True)),
        ("enA-frA", Side("eng", True), Side("fra", True)),
        ("enA-cmn", Side("eng", True), Side("cmn", False)),
        ("eng-cebA", Side("eng", False), Side("ceb", True)),
    ],
)
def test_directions_as_seamless_align_writes_them(text: str, src: Side, tgt: Side) -> None:
    assert Direction.parse(text) == Direction(src, tgt)
    assert str(Direction(src, tgt)) == text


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("eng", "eng-frA"),
        ("", "eng-frA"),
        ("eng-frA-deA", "eng-frA"),
        ("eng-fra", "at least one side must be speech"),
        ("enA-eng", "both sides are eng"),
        ("en-frA", "'eng'"),
        ("eng-fraA", "write frA for French speech"),
        ("eng-xxA", "nearest code"),
        ("eng-A", "nearest code"),
        ("eng-frenchA", "nearest code"),
        ("ENG-frA", "nearest code"),
        ("fra_Latn-enA", "'fra'"),
    ],
)
def test_a_direction_that_is_none_is_told_what_to_write(text: str, told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Direction.parse(text)
    assert told in str(caught.value) and repr(text) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("code", "told"), [("fraa", "'fra'"), ("engl", "'eng'"), ("fr", "'fra'"), ("zho_Hans", "'cmn'"), ("deux", "'deu'")]
)
def test_an_unknown_language_is_told_the_nearest(code: str, told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        get_language(code)
    assert told in str(caught.value) and repr(code) in str(caught.value)


@given(st.text(max_size=12))
def test_no_text_breaks_the_parser(text: str) -> None:
    try:
        direction = Direction.parse(text)
    except ConfigError:
        return
    assert str(direction) == text


def test_a_language_is_found_by_the_codes_of_every_system() -> None:
    for language in all_languages():
        for system in SYSTEMS:
            code = getattr(language, system)
            if code and from_model_code(code, "iso639_3") in (None, language.iso639_3):
                assert find_language(code) == language


@pytest.mark.parametrize(
    ("code", "lang"),
    [
        ("fr-FR", "fra"),
        ("fr_fr", "fra"),
        ("FRA", "fra"),
        (" eng ", "eng"),
        ("cmn_hans_cn", "cmn"),
        ("zh-CN", "cmn"),
        ("zho", "cmn"),
        ("fil_ph", "tgl"),
        ("zho_Hant", "cmn"),
        ("ara", "arb"),
        ("no", "nob"),
        ("nor", "nob"),
        ("iw", "heb"),
        ("plt", "mlg"),
    ],
)
def test_a_language_is_found_by_locales_and_groups(code: str, lang: str) -> None:
    assert find_language(code).iso639_3 == lang


def test_a_code_that_nobody_has_is_told_the_nearest() -> None:
    with pytest.raises(ConfigError, match="language 'xx9' is not in the table; the nearest code is"):
        find_language("xx9")
