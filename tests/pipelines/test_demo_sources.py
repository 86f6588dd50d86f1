"""The demo's sources: transcripts with every defect they have, sentences out of prose, programs that fail."""

from pathlib import Path

import pytest

from seamlessalign.errors import InputError
from seamlessalign.pipelines.demo_sources import distractor_sentences, num_words, parse_transcripts, run_command


def test_transcripts_of_nasty_lines() -> None:
    text = "\n".join(
        [
            "\ufeff; a comment: not a prompt",
            "",
            "plain: Hello  there,\u00a0you. ",
            "digits/0: zero",
            "digits/0: ten, mistyped",
            "with-colon: Options: dial 1",
            "tight:No space",
            "empty:",
            "blank:   ",
            "twice: twice: repeats its id",
            "hours: hours",
            "tones: [ascending tones]",
            "beep: <beep descending>",
            "silence/1: (1 second of silence)",
            "letters/at: at [@]",
            "kept: Sorry, [that] is not valid",
            "noted: Leave a message. (simple tone plays)",
            "quoted: “Press \\'1\\'.\"",
            "lost: Il numero ? stato",
            "  ; an indented comment: no",
            "no colon at all",
            "decomposed: e\u0301te\u0301",
        ]
    )
    assert parse_transcripts(text.encode().replace(b"\n", b"\r\n") + b"\nlatin: \xe9t\xe9") == {
        "plain": "Hello there, you.",
        "digits/0": "zero",
        "with-colon": "Options: dial 1",
        "tight": "No space",
        "hours": "hours",
        "letters/at": "at",
        "kept": "Sorry, that is not valid",
        "noted": "Leave a message.",
        "quoted": "Press '1'.",
        "lost": "Il numero ? stato",
        "decomposed": "été",
        "latin": "été",
    }


def test_distractors_are_plain_sentences_and_no_transcripts() -> None:
    blocks = [
        "A fine day for walking. TOO SHORT. Press one to\ngo on. He said *stars* are no words.",
        "A Fine Day for walking.  Is it not a question of taste? No end to this sentence",
        "What the hell is this line?",
    ]
    found = distractor_sentences(blocks, ["Press one to go  on."])
    assert found == ["A fine day for walking.", "Is it not a question of taste?"]


def test_words() -> None:
    assert [num_words(text) for text in ("", "that's", "voice-mail is full.", "… 12 !", "été à Rome")] == [
        0,
        1,
        3,
        1,
        3,
    ]


def test_a_failing_program_becomes_one_line(tmp_path: Path) -> None:
    command = ["sh", "-c", "echo noise; echo 'E: Unable to locate package nothing' >&2; exit 100"]
    with pytest.raises(InputError) as raised:
        run_command(command, tmp_path, "package nothing cannot be fetched", "do this")
    assert str(raised.value) == "package nothing cannot be fetched: E: Unable to locate package nothing; do this"
    with pytest.raises(InputError, match="no-such-program is not installed; do this"):
        run_command(["no-such-program"], tmp_path, "x", "do this")
