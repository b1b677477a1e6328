"""Every form gives back every bit under every coder, in the bytes that are expected of it."""

import zlib

import hypothesis
import keras
import ml_dtypes
import numpy as np
import pytest
from arrays import DTYPES, SPECIAL, assert_same_bits, named
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tfcomp import storage
from tfcomp.storage import choose, record, stream
from tfcomp.storage.coders import CODERS
from tfcomp.storage.coders import named as coder_named
from tfcomp.storage.forms import Bitmap, Gaps, Palette, Raw, RelativeIndex
from tfcomp.storage.patterns import bit_patterns, sorted_distinct

POSITIONS = {
    "all": None,
    "bitmap": Bitmap(),
    "gaps": Gaps(),
    "relative5": RelativeIndex(5),
    "relative8": RelativeIndex(8),
}
VALUES = {"raw": Raw, "palette": Palette}


def bytes_of(array, coding="deflate", positions="all", values=None):
    coder = coder_named(coding)
    values = VALUES.get(values)
    return record.write(choose.in_form(array, coder, POSITIONS[positions], values), coder)


def round_trip(array, coding="deflate", positions="all", values=None):
    data = bytes_of(array, coding, positions, values)
    assert_same_bits(storage.decode(data, array.shape, array.dtype, coding), array)
    return data


def packed(array):
    """The streams of a tensor in its smallest form under DEFLATE, which gives it back."""
    data = storage.encode(array, "deflate")
    assert_same_bits(storage.decode(data, array.shape, array.dtype, "deflate"), array)
    return storage.streams(array)


# --- golden bytes ------------------------------------------------------------------------------


def test_golden_bytes_of_a_palette():
    # Patterns of 0.0, 1.0, -1.0 in increasing order: 00000000, 3f800000, bf800000. Indices
    # 0 1 1 0 2 in two bits each, lowest first: 0 | 1<<2 | 1<<4 | 0<<6 = 0x14, then 2 = 0x02.
    array = np.array([0, 1, 1, 0, -1], "float32")
    assert bytes_of(array, values="palette").hex(" ") == " ".join(
        [
            "01",  # palette, all positions
            "21 7c 7f db",  # crc32 of the patterns
            "00 04 03 0c",  # words of 4 bytes, 3 of them, 12 bytes
            "00 00 00 00 00 00 80 3f 00 00 80 bf",
            "06",  # bytes of the coder
            "02 02 05 02",  # bits, 2 each, 5 of them, 2 bytes
            "14 02",
        ]
    )


def test_golden_bytes_of_a_relative_index():
    # Two zeros, a 7, none, a 7, then zeros to the end. Gaps 2 and 0 in two bits each: 0x02.
    array = np.array([[0, 0, 7, 7], [0, 0, 0, 0]], "int8")
    data = bytes_of(array, positions="relative8", values="palette")
    # Palette of one value with a relative index: 1 + 2 * 2. Its indices take no bits.
    gaps, indices = "02 02 02 01 02", "02 00 02 00"
    assert data.hex(" ") == f"05 c1 33 07 ca 08 00 01 01 01 07 02 09 {gaps} {indices}"


# --- exactness ---------------------------------------------------------------------------------


@pytest.mark.parametrize("coding", CODERS)
@pytest.mark.parametrize("values", VALUES)
@pytest.mark.parametrize("positions", POSITIONS)
def test_every_form_coder_and_dtype(positions, values, coding):
    for dtype in DTYPES:
        rng = np.random.default_rng(0)
        array = rng.integers(0, 2 if dtype == "bool" else 7, (12, 3, 5))
        array = (array * (rng.random(array.shape) < 0.5)).astype(dtype)
        data = round_trip(array, coding, positions, values)
        where = {"all": "", "bitmap": "bitmap/", "gaps": "gaps/"}.get(positions, "relative/")
        assert record.name_of(data) == where + values


@pytest.mark.parametrize("array", SPECIAL, ids=named)
def test_special_arrays(array):
    packed(np.asarray(array))


@hypothesis.settings(max_examples=150, deadline=None)
@hypothesis.given(
    st.data(),
    st.sampled_from(["float32", "float16", "float64", "bool", "int8", "uint16", "int64"]),
    st.sampled_from(CODERS),
    st.sampled_from(list(POSITIONS)),
    st.sampled_from(list(VALUES)),
)
def test_any_bits_come_back(data, dtype, coding, positions, values):
    shape = data.draw(hnp.array_shapes(min_dims=0, max_dims=4, min_side=1, max_side=9))
    # Few patterns and many zeros, so that the codings have something to do.
    pool = data.draw(
        hnp.arrays(dtype, 4, elements={"allow_nan": True} if dtype[0] == "f" else None)
    )
    picks = data.draw(hnp.arrays("uint8", shape, elements=st.integers(0, 6)))
    array = np.concatenate([pool, np.zeros(3, dtype)])[picks]
    hypothesis.assume(positions == "all" or np.frombuffer(array.tobytes(), "uint8").any())
    round_trip(array, coding, positions, values)


@hypothesis.settings(max_examples=60, deadline=None)
@hypothesis.given(
    st.lists(st.integers(0, 9000), min_size=1, max_size=40),
    st.integers(0, 3000),
    st.sampled_from(CODERS),
    st.sampled_from(list(POSITIONS)),
)
def test_gaps_of_any_length_come_back(gaps, tail, coding, positions):
    places = np.cumsum(np.array(gaps, int) + 1) - 1
    array = np.zeros(sum(gaps) + len(gaps) + tail, "float32")
    array[places] = 1 + np.arange(len(gaps)) % 3
    round_trip(array, coding, positions)


def test_a_rare_long_gap_is_bridged():
    array = np.zeros(100_000, "float32")
    array[::50] = 1
    array[40_000:42_000] = 0
    # From 39950 to 42000: 2049 zeros, which are 8 bridges of 256 elements and a gap of one.
    symbols, values = RelativeIndex(8).split(array)
    assert symbols.dtype == np.uint8 and len(symbols) == len(values) == 1960 + 8
    round_trip(array, positions="relative8")


def test_gaps_that_are_all_long_are_not_bridged():
    array = np.zeros(1_000_000, "float32")
    array[::5000] = 1
    found = packed(array)
    assert found.where == "relative"
    assert found.positions.width == 2 and found.positions.count == 200


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
    packed(array)
    return storage.describe(array).bits_per_weight


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
    found = packed(array)
    assert found.form.startswith("scaled/") and found.scales.shape == scales
    for coding in ("ans", "huffman"):
        data = storage.encode(array, coding)
        assert record.name_of(data).startswith("scaled/")
        assert_same_bits(storage.decode(data, shape, "float32", coding), array)


def test_scales_of_int8_are_taken_out_exactly():
    rng = np.random.default_rng(0)
    largest = np.abs(rng.standard_normal((1, 40))).astype("float32")
    units = rng.integers(-127, 128, (2000, 40)).astype("float32")
    units[0] = 127
    array = units * (largest / np.float32(127))
    found = packed(array)
    assert found.form.startswith("scaled/") and found.scales.shape == (1, 40)
    assert len(storage.encode(array, "deflate")) < 1.02 * units.size


def test_a_few_scales_in_common_are_taken_out():
    # 17 values if all are looked at, three in each channel.
    rng = np.random.default_rng(0)
    scales = 2.0 ** rng.integers(-4, 4, 128)
    array = (rng.integers(-1, 2, (3, 3, 64, 128)) * scales).astype("float32")
    for coding in CODERS:
        data = storage.encode(array, coding)
        assert record.name_of(data).startswith("scaled/")
        assert len(data) < 1.1 * np.log2(3) * array.size / 8 + 500


def test_numbers_that_a_multiplication_may_flush_keep_their_bits():
    array = np.outer([1, 0, -1, 1], np.float32([1e-40, 1, 2, 3])).astype("float32")
    assert not packed(np.tile(array, (100, 1))).form.startswith("scaled")


def test_a_large_dense_tensor_is_raw():
    array = np.random.default_rng(0).standard_normal(1 << 20).astype("float32")
    assert packed(array).form == "raw"


def test_describe():
    described = storage.describe(np.array([[0.0, -0.0, 2.0], [2.0, 3.0, 0.0]], "float32"))
    assert (described.size, described.nonzeros, described.distinct) == (6, 3, 4)
    assert described.sparsity == 0.5
    assert described.bits_per_weight == 8 * described.coded_bytes / 6
    empty = storage.describe(np.zeros((0, 3)))
    assert empty.sparsity == 0 and empty.bits_per_weight == 0


def test_keras_variables():
    variable = keras.Variable(np.eye(4, dtype="float32"))
    assert storage.describe(keras.ops.convert_to_numpy(variable)).nonzeros == 4


# --- errors ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "array",
    [np.array(["a"]), np.array([object()]), np.zeros(3, "complex128"), np.zeros(0, object)],
    ids=["text", "objects", "complex", "no objects"],
)
def test_not_numbers(array):
    with pytest.raises(ValueError, match="`array`"):
        storage.encode(array, "deflate")
    with pytest.raises(ValueError, match="`array`"):
        storage.describe(array)


def test_unknown_coding():
    with pytest.raises(ValueError, match=r"`coding`.*'zip'"):
        storage.encode(np.zeros(3), "zip")


def records():
    rng = np.random.default_rng(0)
    units = rng.integers(-1, 2, (40, 30)).astype("float32")
    scaled = units * np.abs(rng.standard_normal(30)).astype("float32")
    for coding in CODERS:
        yield coding, storage.encode(scaled, coding)
        for positions in POSITIONS:
            for values in VALUES:
                yield coding, bytes_of(units, coding, positions, values)


@pytest.mark.parametrize("coding, data", list(records()))
def test_damage_is_an_error_or_changes_nothing_unseen(coding, data):
    rng = np.random.default_rng(0)
    limit = 1 << 20
    array = storage.decode(data, (40, 30), "float32", coding, limit)
    for cut in range(0, len(data), 1 + len(data) // 200):
        with pytest.raises(ValueError, match=r"Damaged|limit"):
            storage.decode(data[:cut], (40, 30), "float32", coding, limit)
    with pytest.raises(ValueError, match="follow"):
        storage.decode(data + b"x", (40, 30), "float32", coding, limit)
    for _ in range(100):
        broken = bytearray(data)
        broken[rng.integers(len(data))] ^= 1 << rng.integers(8)
        try:
            found = storage.decode(bytes(broken), (40, 30), "float32", coding, limit)
        except ValueError:
            continue
        # The checksum is one of the elements: a zlib header may tell the same in another way.
        assert_same_bits(found, array)


def test_sizes_are_checked_before_memory_is_taken():
    data = bytes_of(np.ones(8, "float32"), positions="relative8")
    with pytest.raises(ValueError, match="max_bytes"):
        storage.decode(data, (1 << 50,), "float32", "deflate")


def test_a_deflate_bomb_stays_small():
    bomb = stream.Stream("words", 1, 10, True, stream._compressed(bytes(1 << 24), (9, 0)))
    with pytest.raises(ValueError, match="10 bytes"):
        stream.unpack(bomb)


def test_float8_name_is_known():
    assert np.dtype("float8_e4m3fn") == ml_dtypes.float8_e4m3fn


@pytest.mark.parametrize(("dtype", "nearly"), [("float32", 1.01), ("float64", 1.02)])
def test_values_that_never_repeat_are_gone_through_few_times(monkeypatch, dtype, nearly):
    """No search for matches, no palette: what a summary of a trained network is made of."""
    passes, real = [], zlib.compressobj

    def counting(level, method, bits, memory, strategy):
        compressor = real(level, method, bits, memory, strategy)

        class Counting:
            def compress(self, data):
                searches = strategy not in (zlib.Z_HUFFMAN_ONLY, zlib.Z_RLE) and level > 1
                passes.append((searches, len(data)))
                return compressor.compress(data)

            flush = compressor.flush

        return Counting()

    array = np.random.default_rng(0).uniform(-0.1, 0.1, (250, 200)).astype(dtype)
    with monkeypatch.context() as patch:
        patch.setattr(zlib, "compressobj", counting)
        described = storage.describe(array)
    assert described.distinct == len({x.tobytes() for x in array.ravel()})
    assert not any(searches for searches, _ in passes)
    assert sum(size for _, size in passes) <= 4 * array.nbytes
    # As small as zlib makes them by searching.
    planes = bit_patterns(array).view("u1").reshape(array.size, -1).T.tobytes()
    best = min(len(zlib.compress(planes, 9)), len(zlib.compress(array.tobytes(), 9)))
    assert described.coded_bytes <= nearly * best


def test_a_search_is_made_where_it_finds_something():
    # All distinct, but in an order: whole planes repeat.
    array = np.arange(1 << 16, dtype="int32")
    assert storage.describe(array).coded_bytes < array.nbytes / 100


def test_distinct_values_are_sorted():
    found = sorted_distinct(np.array([5, 1, 5, 0, 1], "uint8"))
    assert found.dtype == np.uint8 and found.tolist() == [0, 1, 5]
    assert sorted_distinct(np.zeros(0, "uint8")).tolist() == []
