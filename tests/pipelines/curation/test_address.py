"""What the page shows and its address are the same thing, whatever an address says."""

import json
from typing import get_args

from hypothesis import given
from hypothesis import strategies as st

from seamlessalign.pipelines.curation.address import (
    DRAWS,
    Looks,
    Marked,
    Policy,
    Scope,
    View,
    from_parameters,
    to_parameters,
)
from seamlessalign.pipelines.selection import Cut, Filter, Selection

DIRECTIONS = ["eng-frA", "esA-frA"]
COLUMNS = {"margin", "cosine", "src_text", "drop_reason"}

numbers = st.floats(-10, 10, allow_nan=False)
texts = st.text(max_size=20)
filters = st.one_of(
    st.builds(
        Filter,
        column=st.sampled_from(["margin", "cosine"]),
        op=st.sampled_from(["at_least", "at_most"]),
        value=numbers,
    ),
    st.builds(Filter, column=st.just("src_text"), op=st.just("contains"), value=texts),
    st.builds(
        Filter,
        column=st.just("drop_reason"),
        op=st.sampled_from(["one_of", "none_of"]),
        value=st.lists(texts, max_size=3),
    ),
    st.builds(Filter, column=st.sampled_from(sorted(COLUMNS)), op=st.sampled_from(["is_null", "is_not_null"])),
)
cuts = st.builds(
    Cut,
    min_margin=st.none() | numbers,
    min_precision=st.none() | st.floats(0, 1),
    filters=st.lists(filters, max_size=3),
)
views = st.builds(
    View,
    direction=st.sampled_from(DIRECTIONS),
    cuts=st.dictionaries(st.sampled_from(DIRECTIONS), cuts.filter(lambda cut: cut != Cut())),
    labels=st.sampled_from(get_args(Policy)),
    look=st.sampled_from(get_args(Looks)),
    scope=st.sampled_from(get_args(Scope)),
    marked=st.sampled_from(get_args(Marked)),
    order=st.sampled_from([*sorted(COLUMNS), *DRAWS]),
    descending=st.booleans(),
    skip=st.booleans(),
    seed=st.integers(0, 2**31 - 1),
    at=st.integers(0, 10**9),
)


@given(views)
def test_a_view_comes_back_from_its_address(view: View) -> None:
    assert from_parameters(to_parameters(view), DIRECTIONS, COLUMNS) == (view, [])


@given(st.dictionaries(st.sampled_from([*to_parameters(View("a")), "at", "cut.eng-frA", "order", "seed"]), st.text()))
def test_whatever_an_address_says_a_view_is_shown(given_: dict[str, str]) -> None:
    view, wrong = from_parameters(given_, DIRECTIONS, COLUMNS)
    assert view.direction in DIRECTIONS and view.at >= 0 and set(wrong) <= set(given_)
    assert from_parameters(to_parameters(view), DIRECTIONS, COLUMNS) == (view, [])


def test_what_does_not_fit_is_left_out_and_told() -> None:
    asked = {
        "direction": "../../etc", "look": "keep", "order": "margin; drop table pairs", "at": "-1", "seed": "²",
        "cut.eng-frA": json.dumps({"min_margin": 1.25}),
        "cut.esA-frA": json.dumps({"filters": [{"column": "filename", "op": "contains", "value": "x"}]}),
        "cut.xyz": "{}", "labels": "x" * 9000, "nobody": "knows",
    }  # fmt: skip
    view, wrong = from_parameters(asked, DIRECTIONS, COLUMNS)
    assert view == View("eng-frA", {"eng-frA": Cut(min_margin=1.25)}, look="keep")
    assert sorted(wrong) == ["at", "cut.esA-frA", "cut.xyz", "direction", "labels", "order", "seed"]


def test_numbers_that_are_none_are_left_out() -> None:
    for text in ('{"min_margin": NaN}', '{"min_margin": Infinity}', '{"min_precision": 2}', "[]", "[" * 5000, "1"):
        assert from_parameters({"cut.eng-frA": text}, DIRECTIONS, COLUMNS) == (View("eng-frA"), ["cut.eng-frA"])


def test_a_selection_has_the_cuts_of_the_directions_wanted() -> None:
    view = View("eng-frA", {"eng-frA": Cut(min_margin=1.5)}, labels="only_right")
    assert view.selection(DIRECTIONS, "n") == Selection(
        directions={"eng-frA": Cut(min_margin=1.5), "esA-frA": Cut()}, labels="only_right", note="n"
    )
    view.set_cut(Cut())
    assert view.cuts == {} and view.cut == Cut()
