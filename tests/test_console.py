"""Paths in tables that are too narrow for them."""

import io

import keras
import pytest
from rich.console import Console

import tfcomp
from tfcomp.console import shorten

ENCODER = "the_encoder_of_the_network"


def test_what_fits_is_left_alone():
    assert shorten(["a/b", "c"], 3) == ["a/b", "c"]


def test_what_they_begin_with_goes_first():
    found = shorten(["outer/inner/query", "outer/inner/value", "out"], 12)
    assert found == ["…/query", "…/value", "out"]


def test_where_that_is_not_enough_the_middle_goes():
    found = shorten(["first_block/attention/query", "last_block/attention/query"], 12)
    assert found == ["firs…n/query", "last…n/query"]


def test_what_tells_them_apart_stays():
    found = shorten(["x/layer_number_one/a", "x/layer_number_two/a", "x/layer_number_two/b"], 10)
    assert len(set(found)) == 3 and max(map(len, found)) <= 10
    assert [path[-1] for path in found] == ["a", "a", "b"]


def test_where_numbers_stand_in_the_middle_they_stay():
    paths = [f"outer/block_number_{i // 7}/attention/layer_{i % 7}" for i in range(700)]
    found = shorten(paths, 24)
    assert len(set(found)) == 700 and max(map(len, found)) <= 24


def test_what_could_not_be_told_apart_is_left_whole():
    paths = ["aaaaaaaaaaaa1bbbbbbbbbbbbbbbbbbbbbbbb", "aaaaaaaaaaaa2bbbbbbbbbbbbbbbbbbbbbbbb"]
    assert shorten(paths, 6) == paths


def test_the_same_path_twice_is_cut_as_one():
    assert shorten(["outer/layer", "outer/layer"], 6) == ["…layer", "…layer"]


@pytest.mark.parametrize("width", [200, 120, 100, 80])
def test_layers_in_a_summary_can_be_told_apart(width):
    blocks = [
        keras.Sequential(
            [keras.Input((2,)), *(keras.layers.Dense(2, name=f"dense_{name}") for name in names)],
            name=f"a_block_with_a_rather_long_name_number_{number}",
        )
        for number, names in enumerate((["query", "key"], ["query", "key"]))
    ]
    encoder = keras.Sequential([keras.Input((2,)), *blocks], name=ENCODER)
    model = keras.Sequential([keras.Input((2,)), encoder, keras.layers.Dense(1, name="logits")])
    text = io.StringIO()
    tfcomp.summary(model, console=Console(file=text, width=width))
    cells = [line.split("│")[1] for line in text.getvalue().splitlines() if line[:1] == "│"]
    rows = [cell.strip() for cell in cells if cell.strip() not in ("", "Total")]
    assert len(rows) == 5 and len(set(rows)) == 5
    assert all(row.endswith(("query", "key", "logits")) for row in rows)
    assert rows[0].startswith(ENCODER) == (width == 200)
