"""The benchmarks of the evaluator: what they compare is the same."""

from pathlib import Path

import pytest

from benchmarks.evaluation import _CHANGED, _evaluation, _ours, _peer, _write, texts


def test_what_is_timed_finds_what_sacrebleu_finds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.evaluation._SAMPLES", 100)
    made = texts(40)
    ours, peer = _ours(made), _peer(made)
    assert ours.keys() == peer.keys()
    assert ours == pytest.approx(peer, abs=1e-9)
    _write(tmp_path, made)
    whole = _evaluation(str(tmp_path))
    assert {key: whole[key] for key in peer if key in whole} == pytest.approx(
        {key: value for key, value in peer.items() if not key.startswith("p ")}
    )
    assert len(whole) == 5 * len(_CHANGED)
