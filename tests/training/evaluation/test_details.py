"""What measures tell besides scores is plain JSON."""

import json

import numpy as np
import pytest

from seamlessalign.training.evaluation.details import Bin, Curve, Table, details


def test_they_are_plain_json() -> None:
    found = details(
        curves=[Curve("F1", "threshold", "F1", np.array([1.0, 1.5]), [0.25, float("nan")], chosen=1.0)],
        bins=[Bin(0.0, 0.5, 3, 0.25, 1 / 3)],
        tables=[Table("By word", ("word", "times"), [("a", 2), ("b", None)])],
        failed={"asr_failed": np.int64(2)},
        hours=0.0,
        nothing={},
    )
    assert json.loads(json.dumps(found, allow_nan=False)) == {
        "curves": [
            {"name": "F1", "x_label": "threshold", "y_label": "F1", "x": [1.0, 1.5], "y": [0.25, None], "chosen": 1.0}
        ],
        "bins": [{"low": 0.0, "high": 0.5, "count": 3, "estimate": 0.25, "right": pytest.approx(1 / 3)}],
        "tables": [{"title": "By word", "columns": ["word", "times"], "rows": [["a", 2], ["b", None]]}],
        "failed": {"asr_failed": 2},
        "hours": 0.0,
    }
