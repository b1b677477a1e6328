"""Size, time and memory of archives beside the entropy, gzip, Huffman codes and NNCodec.

    python benchmarks/archive_size.py [--nncodec-python PATH] [--json FILE]
    python benchmarks/archive_size.py --scaling

Networks are made up, from seeds: normally distributed kernels of which the smallest are pruned and
the others rounded to equal steps, as many as the bits give, zero included; biases are floats. The
entropy is that of every kernel's values, order zero, and 32 bits for each bias. NNCodec (Fraunhofer
HHI's coder of the ISO standard for neural networks) gets the same integers, kernel by kernel, from
the interpreter of an environment in which it is installed; its biases are counted as 32 bits, and
it is compared with the archive without its header, which it has none of.

Times are those of one core's processor, not of the clock: the best of three. Memory is what the
peak of a process grows by while it decodes an archive, over the float32 weights (Linux only).
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import zlib

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
from record import write

NETWORKS = {
    "lenet-300-100": [(784, 300), (300, 100), (100, 10)],
    "convnet": [(5, 5, 3, 64), (3, 3, 64, 128), (3, 3, 128, 256), (3, 3, 256, 512), (4096, 600)],
    "vgg": [
        *[(3, 3, 3, 64), (3, 3, 64, 64), (3, 3, 64, 128), (3, 3, 128, 128), (3, 3, 128, 256)],
        *[(3, 3, 256, 256), (3, 3, 256, 256), (3, 3, 256, 512), (3, 3, 512, 512)],
        *[(3, 3, 512, 512)] * 4,
        *[(2048, 4096), (4096, 512)],
    ],
}
CASES = [
    *[("lenet-300-100", sparsity, bits) for sparsity, bits in ((0.8, 4), (0.9, 5), (0.99, 5))],
    *[("convnet", sparsity, bits) for sparsity, bits in ((0.8, 5), (0.95, 4))],
    *[("vgg", sparsity, bits) for sparsity, bits in ((0.8, 5), (0.9, 4), (0.99, 5))],
]
STEP = np.float32(0.0173)
NNCODEC = """
import json, os, sys, time
import numpy as np
devnull = os.open(os.devnull, os.O_WRONLY)
shown = os.dup(1)
os.dup2(devnull, 1)
from nncodec import tensor
os.chdir(sys.argv[2])
with np.load(sys.argv[1]) as file:
    kernels = [file[name] for name in sorted(file.files)]
size, encoding, decoding, same = 0, 0.0, 0.0, True
for kernel in kernels:
    begin = time.process_time()
    data = tensor.encode(kernel, {"use_dq": False})
    encoding += time.process_time() - begin
    begin = time.process_time()
    back = tensor.decode(data)
    decoding += time.process_time() - begin
    size += len(data)
    same = same and bool((np.asarray(back) == kernel).all())
os.dup2(shown, 1)
print(json.dumps({"bytes": size, "encode": encoding, "decode": decoding, "same": same}))
"""


def integers(shape, sparsity, bits, rng):
    """A pruned kernel in whole steps."""
    weights = rng.standard_normal(shape, dtype=np.float32)
    threshold = np.quantile(np.abs(weights.reshape(-1)[: 1 << 20]), sparsity)
    most = (1 << (bits - 1)) - 1
    steps = np.clip(np.round(np.abs(weights) * most / 4), 1, most)
    return (np.where(np.abs(weights) < threshold, 0, steps) * np.sign(weights)).astype(np.int32)


def network(name, sparsity, bits, seed=1):
    """Kernels in whole steps, and the contents of an archive with them and biases."""
    import keras

    from tfcomp.keras_private import model_to_json
    from tfcomp.storage.archive import container, keras_state

    rng = np.random.default_rng(seed)
    keras.utils.clear_session()
    layers, kernels, state = [], [], {}
    for shape in NETWORKS[name]:
        if len(shape) == 4:
            layers.append(keras.layers.Conv2D(shape[-1], shape[:2], padding="same"))
        else:
            layers += [keras.layers.Flatten()] * (shape[0] == 2048 or shape[0] == 4096)
            layers.append(keras.layers.Dense(shape[-1], activation="relu"))
    model = keras.Sequential(layers, name=name)
    for index, shape in enumerate(NETWORKS[name]):
        kernels.append(integers(shape, sparsity, bits, rng))
        bias = (rng.standard_normal(shape[-1]) / 10).astype("float32")
        path = f"layers/{'conv2d' if len(shape) == 4 else 'dense'}_{index}"
        state[path] = {"0": kernels[-1].astype("float32") * STEP, "1": bias}
    config = json.dumps(keras_state.renumbered(json.loads(model_to_json(model))))
    return kernels, container.Contents(keras.__version__, config, state, {})


def best(call):
    """Least seconds of processor time of three calls, and what the call returns."""
    seconds = []
    for _ in range(3):
        begin = time.process_time()
        result = call()
        seconds.append(time.process_time() - begin)
    return min(seconds), result


def entropy_bytes(array):
    counts = np.unique(array, return_counts=True)[1]
    return float((counts * np.log2(array.size / counts)).sum() / 8)


def nncodec(python, kernels):
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "kernels.npz")
        np.savez(path, **{f"{i:03}": kernel for i, kernel in enumerate(kernels)})
        command = [python, "-c", NNCODEC, path, folder]
        # Its own packages only.
        env = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        done = subprocess.run(command, capture_output=True, text=True, env=env)
    if done.returncode:
        raise SystemExit(f"NNCodec failed:\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def peak_of_decoding(data):
    """Bytes that the peak of a process grows by while it decodes."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(data)
        file.flush()
        command = [sys.executable, __file__, "--decode", file.name]
        return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def peak(reset=False):
    """Peak of this process in bytes, as of now if reset."""
    if reset:
        with open("/proc/self/clear_refs", "w") as file:
            file.write("5")
    with open("/proc/self/status") as file:
        line = next(line for line in file if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


def decode(path):
    from tfcomp.storage.archive.container import Archive
    from tfcomp.storage.coders import named

    # What is loaded for the first tensor is not counted.
    named("ans")
    before = peak(reset=True)
    with open(path, "rb") as file:
        contents = Archive(file.read(), 1 << 40).contents()
    grown = peak() - before
    assert contents.state
    print(grown)


def same(contents, data):
    from tfcomp.storage.archive.container import Archive

    back = Archive(data, 1 << 40).contents()
    return all(
        value.tobytes() == back.state[path][name].tobytes()
        for path, group in contents.state.items()
        for name, value in group.items()
    )


def measure(name, sparsity, bits, nncodec_python):
    from tfcomp.storage.archive import container

    kernels, contents = network(name, sparsity, bits)
    values = [value for group in contents.state.values() for value in group.values()]
    weights = sum(value.size for value in values)
    floats = b"".join(value.tobytes() for value in values)
    biases = sum(value.nbytes for value in values if value.ndim == 1)
    encoding, data = best(lambda: container.to_bytes(contents))
    decoding, _ = best(lambda: container.Archive(data, 1 << 40).contents())
    assert same(contents, data)
    huffman = container.to_bytes(contents, "huffman")
    assert same(contents, huffman)
    records = sum(len(entry.data) for entry in container.Archive(data, 1 << 40).entries)
    entropy = sum(entropy_bytes(kernel) for kernel in kernels) + biases
    row = {
        "network": name,
        "weights": weights,
        "sparsity": sparsity,
        "bits": bits,
        "entropy": round(entropy),
        "archive": len(data),
        "header": len(data) - records,
        "float32": len(floats),
        "gzip -9": len(zlib.compress(floats, 9)),
        "huffman": len(huffman),
        "encode ns": encoding / weights * 1e9,
        "decode ns": decoding / weights * 1e9,
        "memory": peak_of_decoding(data) / len(floats),
    }
    if nncodec_python:
        other = nncodec(nncodec_python, kernels)
        row["nncodec ratio"] = (other["bytes"] + biases) / records
        row["nncodec exact"] = other["same"]
        row["nncodec encode ns"] = other["encode"] / weights * 1e9
        row["nncodec decode ns"] = other["decode"] / weights * 1e9
    return row


def show(row):
    entropy = row["entropy"]
    text = (
        f"{row['network']:13} {row['weights']:>10,} {row['sparsity']:.0%} {row['bits']} bit: "
        f"archive {row['archive']:>9,} = {row['archive'] / entropy:.4f} x entropy {entropy:>9,}, "
        f"{row['archive'] - 1.02 * entropy:+,.0f} to 1.02 x; header {row['header']:,}; "
        f"gzip {row['gzip -9'] / row['archive']:.2f} x, huffman "
        f"{row['huffman'] / row['archive']:.3f} x; encode {row['encode ns']:.1f} ns, decode "
        f"{row['decode ns']:.1f} ns, memory {row['memory']:.2f} x"
    )
    if "nncodec ratio" in row:
        text += (
            f"; nncodec {row['nncodec ratio']:.3f} x the weights, encode "
            f"{row['nncodec encode ns']:.0f} ns, decode {row['nncodec decode ns']:.0f} ns"
            + ("" if row["nncodec exact"] else ", NOT EXACT")
        )
    print(text, flush=True)


def scaling():
    """One tensor of 1, 10 and 100 million weights."""
    return [scale(millions) for millions in (1, 10, 100)]


def scale(millions):
    from tfcomp.storage.archive import container

    rng = np.random.default_rng(1)
    kernel = np.empty((1000 * millions, 1000), "float32")
    for part in np.split(kernel, millions):
        part[:] = integers((1000, 1000), 0.9, 5, rng) * STEP
    contents = container.Contents("", "{}", {"kernel": {"0": kernel}}, {})
    encoding, data = best(lambda: container.to_bytes(contents))
    decoding, _ = best(lambda: container.Archive(data, 1 << 40).contents())
    row = {
        "weights": kernel.size,
        "archive": len(data),
        "encode ns": encoding / kernel.size * 1e9,
        "decode ns": decoding / kernel.size * 1e9,
        "memory": peak_of_decoding(data) / kernel.nbytes,
    }
    print(
        f"{kernel.size:>11,} weights: {len(data):>10,} bytes, encode {row['encode ns']:.1f} ns, "
        f"decode {row['decode ns']:.1f} ns, memory {row['memory']:.2f} x",
        flush=True,
    )
    return row


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--nncodec-python", help="interpreter that has NNCodec")
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS), choices=list(NETWORKS))
    parser.add_argument("--scaling", action="store_true", help="1, 10 and 100 million weights")
    parser.add_argument("--decode", help=argparse.SUPPRESS)
    parser.add_argument("--json", default="archive_size.json")
    arguments = parser.parse_args()
    if arguments.decode:
        return decode(arguments.decode)
    if arguments.scaling:
        rows = scaling()
    else:
        rows = []
        for name, sparsity, bits in CASES:
            if name in arguments.networks:
                rows.append(measure(name, sparsity, bits, arguments.nncodec_python))
                show(rows[-1])
    write(arguments.json, rows)


if __name__ == "__main__":
    main()
