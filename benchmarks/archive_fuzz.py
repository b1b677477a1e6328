"""Damaged archives by the hundred thousand: each must be one `ArchiveError`, and quickly.

    python benchmarks/archive_fuzz.py [--cases 100000] [--seed 1]

Kinds of damage: bytes changed, the file cut off, parts cut out, doubled or swapped with those of
another archive, and random bytes, each both as they are and with the checksum made right again, as
somebody who means harm would. With a right checksum, an archive may also decode, to no more than it
declares; the checksum of each weight leaves only the header, names and files to be changed unseen.
Every case runs with a limit on the memory of the process, and one that takes more than 5 s of
processor time is reported. Whether Keras builds a model of what was read is not tried: the config
is Keras's to read.
"""

import argparse
import collections
import os
import resource
import sys
import time
import traceback

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
from record import write

from tfcomp import ArchiveError
from tfcomp.storage.archive import container

LIMIT = 1 << 20
SLOW = 5.0
HEADROOM = 1 << 30


def archives():
    """Small archives of every form and entropy coder, without their checksums."""
    rng = np.random.default_rng(0)
    pruned = np.where(rng.random((20, 30)) < 0.2, rng.integers(1, 9, (20, 30)), 0)
    weights = {
        "palette": rng.integers(0, 5, (20, 30)).astype("float32"),
        "sparse": pruned.astype("float32"),
        "conv": pruned.reshape(2, 5, 6, 10).astype("bfloat16"),
        "floats": rng.standard_normal((30, 40)).astype("float32"),
        "pruned": np.where(pruned, rng.standard_normal(pruned.shape), 0).astype("float64"),
        "scaled": np.outer(rng.integers(-1, 2, 40), np.arange(1, 30) / 7).astype("float32"),
        "zeros": np.zeros((99, 99), "int8"),
        "empty": np.zeros((0, 3), "uint16"),
        "far": np.eye(1, 20_000, 15_000, dtype="float16"),
    }
    for coding in ("ans", "huffman"):
        contents = [{"all": weights}] + [{name: {"0": value}} for name, value in weights.items()]
        for state in contents:
            whole = container.Contents("3", '{"a": 1}', state, {"file": b"text" * 9})
            yield container.to_bytes(whole, coding)[:-16]


def changed(body, others, rng):
    body = bytearray(body)
    for _ in range(rng.choice([1, 1, 1, 2, 3, 10])):
        body[rng.integers(len(body))] ^= rng.integers(1, 256)
    return body


def cut_off(body, others, rng):
    return body[: rng.integers(len(body))]


def cut_out(body, others, rng):
    first, last = sorted(rng.integers(0, len(body) + 1, 2))
    return body[:first] + body[last:]


def doubled(body, others, rng):
    first, last = sorted(rng.integers(0, len(body) + 1, 2))
    return body[:last] + body[first:]


def swapped(body, others, rng):
    other = others[rng.integers(len(others))]
    return body[: rng.integers(len(body))] + other[rng.integers(len(other)) :]


def random(body, others, rng):
    made = rng.integers(0, 256, rng.integers(200), dtype=np.uint8).tobytes()
    return (container.MAGIC + b"\x01" + bytes([rng.integers(2)])) * rng.integers(2) + made


def header(body, others, rng):
    """The header's JSON changed, which its DEFLATE would otherwise hide."""
    archive = container.Archive(body + container._digest(body), LIMIT)
    text = bytearray(container._unpacked(reader_of_header(body), "header", LIMIT))
    for _ in range(rng.choice([1, 2, 5])):
        at = rng.integers(len(text))
        text[at : at + rng.integers(2)] = bytes([rng.choice(list(b'0123456789-eE".,:[]{}x \xff'))])
    return body[:10] + container._packed(bytes(text)) + body[archive.header_bytes :]


def reader_of_header(body):
    reader = container.Reader(body, LIMIT)
    reader.take(10)
    return reader


DAMAGES = (changed, changed, changed, header, cut_off, cut_out, doubled, swapped, random)


def outcome(data):
    try:
        contents = container.Archive(data, LIMIT).contents()
    except ArchiveError:
        return "ArchiveError"
    size = sum(value.nbytes for group in contents.state.values() for value in group.values())
    return "decoded" if size <= LIMIT else "TOO LARGE"


def limit_memory():
    with open("/proc/self/statm") as file:
        used = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + HEADROOM, used + HEADROOM))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", default="archive_fuzz.json")
    arguments = parser.parse_args()
    bodies = list(archives())
    rng = np.random.default_rng(arguments.seed)
    found, wrong, slowest = collections.Counter(), 0, 0.0
    limit_memory()
    for case in range(arguments.cases):
        damage = DAMAGES[case % len(DAMAGES)]
        body = bodies[rng.integers(len(bodies))]
        sealed = bool(rng.integers(4))
        broken = bytes(damage(body, bodies, rng))
        seal = container._digest(broken) if sealed else container._digest(body)
        begin = time.process_time()
        try:
            result = outcome(broken + seal)
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                raise
            result = type(error).__name__
            traceback.print_exc()
        seconds = time.process_time() - begin
        slowest = max(slowest, seconds)
        if not sealed and broken != body and result == "decoded":
            result = "UNSEEN"
        wrong += result not in ("ArchiveError", "decoded") or seconds > SLOW
        if seconds > SLOW:
            print(f"case {case}: {damage.__name__}, {result}, {seconds:.2f} s")
        found[f"{'right' if sealed else 'wrong'} checksum: {result}"] += 1
    for name, count in sorted(found.items()):
        print(f"{name:40} {count:>8,}")
    print(f"{arguments.cases:,} cases, slowest {slowest:.2f} s, {wrong} not as they should be")
    results = {"cases": arguments.cases, "slowest": slowest, "wrong": wrong, "outcomes": found}
    write(arguments.json, results)
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
