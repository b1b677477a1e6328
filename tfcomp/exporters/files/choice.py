"""Chooses, by timing them, which of an engine's own kernels a file has."""

import os
import tempfile

import numpy as np

from tfcomp.exporters.compared import batch_of, draws, tried
from tfcomp.exporters.engines import RUNTIMES
from tfcomp.exporters.files.makers import LiteRTFile, ONNXFile, OpenVINOFile
from tfcomp.exporters.latency.budget import Budget
from tfcomp.exporters.latency.table import KERAS, WHOLE, WORTH, Kernel, Kernels
from tfcomp.exporters.latency.trial import seconds_of
from tfcomp.exporters.verify_file import computing, prepared
from tfcomp.model.progress import Progress

MAKERS = {"litert": LiteRTFile, "onnx": ONNXFile, "openvino": OpenVINOFile}


def write_for_latency(model, path, format, specs, search, verbose=0, check=None):
    """Writes the file that takes least time on this machine.

    Args:
        model: A built `keras.Model`.
        path: Where to write.
        format: One of `MAKERS`.
        specs: List of structures of specs, one for each argument.
        search: A `Search`. Kernels are timed on its batch sizes, where the specs leave them free,
            and one has to take less time than Keras's layers on each of them.
        verbose: 0 or 1, for a progress bar.
        check: Optional function that is given the path of the file without kernels, before any are
            put in: differences are then those of kernels, which are compared by themselves; and
            that of a file with a way of its own for one sample, and the batch size 1.

    Returns:
        `Kernels`, and whether the file has kernels that Keras's has not.
    """
    fixed, budget = batch_of(specs), Budget(search.seconds)
    sizes = [fixed] if fixed is not None else sorted(set(search.batch_sizes))
    ending = os.path.splitext(path)[1]
    with tempfile.TemporaryDirectory() as folder:
        maker = MAKERS[format](model, specs, folder)
        paths = [os.path.join(folder, f"whole{ending}")]
        maker.write(paths[0], [])
        if check is not None:
            check(paths[0])
        bar = Progress(len(maker.items) + 1, verbose, "kernel")
        timed = []
        for item in maker.items:
            if budget.is_used_up:
                break
            timed.append(_time_parts(maker, item, format, sizes))
            bar.step()
        chosen = [(place, _best(seconds) - 1) for place, seconds in enumerate(timed)]
        chosen = [pair for pair in chosen if pair[1] >= 0]
        forms = maker.forms(RUNTIMES[format](paths[0], None), sizes) if chosen else {}
        for number, form in enumerate(forms.values()):
            paths.append(os.path.join(folder, f"whole_{number}{ending}"))
            maker.write(paths[-1], chosen, form)
        whole = _time_whole(paths, format, specs, sizes)
        best = _best_form(whole)
        chosen = chosen if best else []
        form = [None, *forms.values()][best]
        maker.write(path, chosen, form)
        if check is not None and form is not None:
            check(path, 1)
        bar.step()
    rows = []
    for number, size in enumerate(sizes):
        rows += _rows(maker, dict(chosen), [seconds[number] for seconds in timed], size)
        rows.append(_row(WHOLE, size, [KERAS, *forms], whole[number], best))
    late = [budget.left_out(item.path) for item in maker.items[len(timed) :]]
    kernels = Kernels(model, rows, [*maker.left, *late], budget.used, f" in {format}")
    return kernels, bool(chosen)


def _time_parts(maker, item, format, sizes):
    """Seconds of an item without and with its kernels, an array of shape `(sizes, kernels)`."""
    engines = [RUNTIMES[format](path, None) for path in maker.parts(item)]
    found = []
    for size in sizes:
        inputs = maker.inputs(item, size)
        found.append(seconds_of([engine.prepare([inputs]) for engine in engines]))
    return np.array(found)


def _time_whole(paths, format, specs, sizes):
    """The same of whole files."""
    engines, found = [RUNTIMES[format](path, None) for path in paths], []
    for size in sizes:
        args, _ = tried(computing(engines[0], specs), draws(specs, size))
        found.append(seconds_of([prepared(engine, specs, args) for engine in engines]))
    return np.array(found)


def _best(seconds):
    """The column that takes least time, the first unless another does at every size."""
    faster = seconds[:, :1] / seconds
    means = np.where(np.all(faster >= WORTH, axis=0), np.log(faster).mean(axis=0), 0)
    return int(np.argmax(means))


def _best_form(seconds):
    """The same of whole files: the first form with kernels unless another takes less than it."""
    best, faster = _best(seconds), seconds[:, 0] / seconds[:, min(1, seconds.shape[1] - 1)]
    return 1 if best > 1 and np.all(faster >= WORTH) and not _best(seconds[:, 1:]) else best


def _rows(maker, chosen, timed, size):
    return [
        _row(item.path, size, [KERAS, *maker.options(item)], seconds, chosen.get(place, -1) + 1)
        for place, (item, seconds) in enumerate(zip(maker.items, timed))
    ]


def _row(path, size, names, seconds, option):
    # Of warm and cold caches, which were added up.
    times = 500 * seconds.astype(float)
    others = {
        name: f"{'slower' if taken >= times[option] else 'faster at this size'}: {taken:.3f} ms"
        for name, taken in zip(names[1:], times[1:])
        if name != names[option]
    }
    return Kernel(path, size, names[option], float(times[option]), float(times[0]), others)
