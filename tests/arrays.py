"""Arrays that a coding may trip over, of every dtype that a variable may have."""

import numpy as np

DTYPES = [
    *("float32", "float16", "float64", "bfloat16", "float8_e4m3fn", "bool"),
    *("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"),
]
SPECIAL = [
    np.float32(3.5),
    np.zeros((), "int8"),
    np.zeros((0,), "float32"),
    np.zeros((3, 0, 2), "bfloat16"),
    np.zeros(100_000, "float32"),
    np.full((7, 9), -0.0, "float32"),
    np.ones((300, 300), "float16"),
    np.array([np.nan, -np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-45, 3.4e38], "float32"),
    np.array([0x7FC00001, 0xFFC12345, 0x7F800001] * 99, "uint32").view("float32"),
    np.asfortranarray(np.arange(12, dtype="float32").reshape(3, 4)),
    np.arange(24, dtype=">f4").reshape(2, 3, 4).astype("<f4")[:, ::-1],
    np.arange(70_000, dtype="int32"),
]


def named(array):
    """An array as the name of a test."""
    return f"{array.dtype}{array.shape}"


def assert_same_bits(actual, wanted):
    assert actual.shape == wanted.shape and actual.dtype == wanted.dtype
    assert actual.tobytes() == wanted.tobytes()
