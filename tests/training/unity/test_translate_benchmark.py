"""The benchmark of translating runs, and both searches that it measures find the same."""

import pytest

from benchmarks import translate


@pytest.mark.slow
def test_both_searches_find_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    options = ("--pieces", "300", "--units", "20", "--tokens", "8", "--rows", "4", "--rounds", "1", "--beams", "1", "3")
    translate.main(options)
    lines = [line.split("|") for line in capsys.readouterr().out.splitlines() if line.startswith("| ")][1:]
    assert len(lines) == 8 and all(float(line[-2]) == 1.0 for line in lines)
    assert all(float(line[4].replace(",", "")) > 0 and float(line[5].replace(",", "")) > 0 for line in lines)
