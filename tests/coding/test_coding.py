"""Codings give back every bit, in the bytes that a calculation by hand expects."""

import hypothesis
import keras
import ml_dtypes
import numpy as np
import pytest
from arrays import DTYPES, SPECIAL, assert_same_bits, named
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tfcomp import coding
from tfcomp.coding import stream


def round_trip(array, codings=None):
    coded = coding.encode(array, codings)
    data = coding.to_bytes(coded)
    assert_same_bits(coding.decode(coding.from_bytes(data)), np.asarray(array))
    return coded


# --- golden bytes ------------------------------------------------------------------------------


def test_golden_bytes_of_a_palette():
    # Patterns of 0.0, 1.0, -1.0 in increasing order: 00000000, 3f800000, bf800000. Indices
    # 0 1 1 0 2 in two bits each, lowest first: 0 | 1<<2 | 1<<4 | 0<<6 = 0x14, then 2 = 0x02.
    array = np.array([0, 1, 1, 0, -1], "float32")
    data = coding.to_bytes(coding.encode(array, ["palette"]))
    assert data.hex(" ") == " ".join(
        [
            "01",  # palette
            "07 66 6c 6f 61 74 33 32",  # "float32"
            "01 05",  # one axis of 5
            "00 04 03 0c",  # words of 4 bytes, 3 of them, 12 bytes
            "00 00 00 00 00 00 80 3f 00 00 80 bf",
            "02 02 05 02",  # bits, 2 each, 5 of them, 2 bytes
            "14 02",
        ]
    )
    assert_same_bits(coding.decode(coding.from_bytes(data)), array)


def test_golden_bytes_of_gaps():
    # Two zeros, a 7, none, a 7, then zeros to the end. Gaps 2 and 0 in two bits each: 0x02.
    array = np.array([[0, 0, 7, 7], [0, 0, 0, 0]], "int8")
    data = coding.to_bytes(coding.encode(array, ["gaps"]))
    values = "01 04 69 6e 74 38 01 02 00 01 01 01 07 02 00 02 00"
    assert data.hex(" ") == f"03 04 69 6e 74 38 02 02 04 02 02 02 01 02 {values}"
    assert_same_bits(coding.decode(coding.from_bytes(data)), array)


# --- exactness ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [None, *coding.CODINGS])
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_coding_and_dtype(name, dtype):
    rng = np.random.default_rng(0)
    values = rng.integers(0, 2 if dtype == "bool" else 7, (12, 3, 5)) * (
        rng.random((12, 3, 5)) < 0.5
    )
    array = values.astype(dtype)
    if name == "scaled":
        if dtype == "float32":
            round_trip(array, [name])
        return
    round_trip(array, name and [name])


@pytest.mark.parametrize("array", SPECIAL, ids=named)
def test_special_arrays(array):
    round_trip(array)


@hypothesis.settings(max_examples=150, deadline=None)
@hypothesis.given(
    st.data(),
    st.sampled_from(["float32", "float16", "float64", "bool", "int8", "uint16", "int64"]),
    st.sampled_from([None, "raw", "palette", "bitmap", "gaps"]),
)
def test_any_bits_come_back(data, dtype, name):
    shape = data.draw(hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=9))
    # Few patterns and many zeros, so that the codings have something to do.
    pool = data.draw(
        hnp.arrays(dtype, 4, elements={"allow_nan": True} if dtype[0] == "f" else None)
    )
    picks = data.draw(hnp.arrays("uint8", shape, elements=st.integers(0, 6)))
    array = np.concatenate([pool, np.zeros(3, dtype)])[picks]
    if name == "palette" and not array.size:
        return
    round_trip(array, name and [name])


@hypothesis.settings(max_examples=60, deadline=None)
@hypothesis.given(st.lists(st.integers(0, 2000), max_size=40), st.integers(0, 3000))
def test_gaps_of_any_length_come_back(gaps, tail):
    positions = np.cumsum(np.array(gaps, int) + 1) - 1
    array = np.zeros(sum(gaps) + len(gaps) + tail, "float32")
    array[positions] = 1 + np.arange(len(gaps))
    round_trip(array, ["gaps"])


def test_a_rare_long_gap_is_bridged():
    array = np.zeros(100_000, "float32")
    array[::50] = 1
    array[40_000:42_000] = 0
    # From 39950 to 42000: 2049 zeros, which are 8 bridges of 256 elements and a gap of one.
    coded = round_trip(array, ["gaps"])
    assert coded.parts["gaps"].width < 8 and coded.parts["gaps"].count == 1960 + 8


@pytest.mark.parametrize("width", range(1, 8))
def test_bits_of_any_width(width):
    rng = np.random.default_rng(width)
    for count in (1, 7, 8, 9, 1001, (1 << 20) + 3):
        integers = rng.integers(0, 1 << width, count).astype("uint8")
        packed = stream.pack(integers, [("bits", width)])
        np.testing.assert_array_equal(stream.unpack(packed), integers)
        assert packed.packed_bytes == (count * width + 7) // 8


# --- sizes -------------------------------------------------------------------------------------


def entropy(shares):
    return -sum(share * np.log2(share) for share in shares)


def bits(array):
    described = coding.describe(array)
    round_trip(array)
    return described.bits_per_weight


def test_binary_costs_one_bit():
    rng = np.random.default_rng(0)
    assert bits(rng.choice([-0.3, 0.3], (400, 500)).astype("float32")) < 1.01


def test_ternary_costs_little_more_than_its_entropy():
    rng = np.random.default_rng(0)
    assert bits(rng.choice([-1, 0, 1], (400, 500)).astype("float32")) < 1.03 * np.log2(3)


def test_thirty_one_values_cost_five_bits():
    rng = np.random.default_rng(0)
    table = rng.standard_normal(31).astype("float32")
    assert bits(table[rng.integers(0, 31, (400, 500))]) < 5.05


def test_pruned_and_clustered_costs_little_more_than_its_entropy():
    rng = np.random.default_rng(0)
    table = rng.standard_normal(31).astype("float32")
    array = np.where(rng.random((800, 500)) < 0.05, table[rng.integers(0, 31, (800, 500))], 0)
    assert bits(array.astype("float32")) < 1.05 * entropy([0.95] + [0.05 / 31] * 31)


def test_random_floats_gain_by_their_exponents_alone():
    rng = np.random.default_rng(0)
    assert 26 < bits(rng.standard_normal((400, 500)).astype("float32")) < 28


@pytest.mark.parametrize(
    "shape, scales, levels",
    [
        ((3, 3, 64, 128), (1, 1, 1, 128), 1),
        ((3, 3, 64, 128), (1, 1, 1, 128), 7),
        ((3, 3, 400, 1), (1, 1, 400, 1), 1),
        ((3, 3, 128, 64), (1, 1, 128, 1), 7),
        ((400, 300), (1, 300), 7),
        ((300, 400), (300, 1), 1),
    ],
    ids=["conv", "conv of four bits", "depthwise", "transposed", "dense", "rows"],
)
def test_scales_are_taken_out_exactly(shape, scales, levels):
    rng = np.random.default_rng(0)
    units = rng.integers(-levels, levels + 1, shape).astype("float32")
    array = units * np.abs(rng.standard_normal(scales)).astype("float32")
    coded = round_trip(array)
    assert coded.coding == "scaled" and coded.parts["scales"].shape == scales


def test_scales_of_int8_are_taken_out_exactly():
    rng = np.random.default_rng(0)
    largest = np.abs(rng.standard_normal((1, 40))).astype("float32")
    units = rng.integers(-127, 128, (2000, 40)).astype("float32")
    units[0] = 127
    coded = round_trip(units * (largest / np.float32(127)))
    assert coded.coding == "scaled" and coded.parts["scales"].shape == (1, 40)
    assert len(coding.to_bytes(coded)) < 1.02 * units.size


def test_numbers_that_a_multiplication_may_flush_keep_their_bits():
    array = np.outer([1, 0, -1, 1], np.float32([1e-40, 1, 2, 3])).astype("float32")
    assert round_trip(np.tile(array, (100, 1))).coding != "scaled"


def test_a_large_dense_tensor_is_not_sorted(monkeypatch):
    array = np.random.default_rng(0).standard_normal(1 << 20).astype("float32")
    assert round_trip(array).coding == "raw"


def test_describe():
    described = coding.describe(np.array([[0.0, -0.0, 2.0], [2.0, 3.0, 0.0]], "float32"))
    assert (described.size, described.nonzeros, described.distinct) == (6, 3, 4)
    assert described.sparsity == 0.5
    assert described.bits_per_weight == 8 * described.coded_bytes / 6
    empty = coding.describe(np.zeros((0, 3)))
    assert empty.sparsity == 0 and empty.bits_per_weight == 0


def test_keras_variables():
    variable = keras.Variable(np.eye(4, dtype="float32"))
    assert coding.describe(keras.ops.convert_to_numpy(variable)).nonzeros == 4


# --- errors ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "array",
    [np.array(["a"]), np.array([object()]), np.zeros(3, "complex128")],
    ids=["text", "objects", "complex"],
)
def test_not_numbers(array):
    with pytest.raises(ValueError, match="`array`"):
        coding.encode(array)


def test_unknown_coding():
    with pytest.raises(ValueError, match=r"`codings`.*'zip'"):
        coding.encode(np.zeros(3), ["zip"])


def test_a_coding_that_does_not_apply():
    with pytest.raises(ValueError, match="`codings`"):
        coding.encode(np.zeros(3, "int8"), ["scaled"])


def records():
    rng = np.random.default_rng(0)
    units = rng.integers(-1, 2, (40, 30)).astype("float32")
    arrays = [
        (units, "palette"),
        (units, "bitmap"),
        (units, "gaps"),
        (units, "raw"),
        (units * np.abs(rng.standard_normal(30)).astype("float32"), "scaled"),
    ]
    return [coding.to_bytes(coding.encode(array, [name])) for array, name in arrays]


@pytest.mark.parametrize("data", records(), ids=["palette", "bitmap", "gaps", "raw", "scaled"])
def test_damage_is_an_error_or_changes_values_only(data):
    rng = np.random.default_rng(0)
    for cut in range(len(data)):
        with pytest.raises(ValueError, match=r"Damaged|limit"):
            coding.decode(coding.from_bytes(data[:cut], max_bytes=1 << 20))
    with pytest.raises(ValueError, match="follow"):
        coding.from_bytes(data + b"x")
    for _ in range(400):
        broken = bytearray(data)
        broken[rng.integers(len(data))] ^= 1 << rng.integers(8)
        try:
            array = coding.decode(coding.from_bytes(bytes(broken), max_bytes=1 << 20))
        except ValueError:
            continue
        assert array.nbytes <= 1 << 20


def test_sizes_are_checked_before_memory_is_taken():
    honest = coding.to_bytes(coding.encode(np.zeros(8, "float32"), ["gaps"]))
    at = honest.index(b"float32") + len("float32") + 1
    huge = honest[:at] + b"\xff\xff\xff\xff\xff\xff\xff\x7f" + honest[at + 1 :]
    with pytest.raises(ValueError, match="max_bytes"):
        coding.from_bytes(huge)


def test_a_deflate_bomb_stays_small():
    bomb = stream.Stream("words", 1, 10, True, stream._zlib(bytes(1 << 24), 9, 0))
    with pytest.raises(ValueError, match="10 bytes"):
        stream.unpack(bomb)


def test_float8_name_is_known():
    assert np.dtype("float8_e4m3fn") == ml_dtypes.float8_e4m3fn
