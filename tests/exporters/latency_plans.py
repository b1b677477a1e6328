"""What tests of the kernels of exports share."""

import numpy as np

import tfcomp


def later_is_faster(monkeypatch):
    """Plans are used however fast they are, and the last is the fastest."""
    from tfcomp.exporters.latency import plan

    monkeypatch.setattr(plan, "WORTH", 0.0)
    monkeypatch.setattr(plan, "interleaved", lambda calls, _: 1.0 / (1 + _order(calls)))


def always(monkeypatch, name):
    """Kernels whose names begin so are chosen wherever they can be."""
    from tfcomp.exporters.latency import plan, trial

    kept = trial.Trial._measured

    def measured(self, batch):
        seconds, refused = kept(self, batch)
        # Others take longer than Keras's layers, which take longer than these.
        late = [0 if each.name.startswith(name) else 2 for each in self.unit.candidates]
        return seconds + 1e3 * np.array([1, *late]), refused

    monkeypatch.setattr(trial.Trial, "_measured", measured)
    monkeypatch.setattr(plan, "WORTH", 0.0)
    # The first of them; Keras's layers, before it, take most.
    monkeypatch.setattr(plan, "interleaved", lambda calls, _: 1.0 + (_order(calls) - 1.0) % 99)


def _order(calls):
    """The later, the faster."""
    for call in calls:
        call()
    return np.tile(np.arange(len(calls)), (3, 1))


def random_weights(model, seed=0):
    rng = np.random.default_rng(seed)
    for variable in model.variables:
        value = rng.normal(size=variable.shape) * 0.5
        variable.assign(np.abs(value) + 0.1 if variable.name == "moving_variance" else value)
    return model


def units_of(model):
    import tensorflow as tf

    from tfcomp.exporters.latency.flow import layer_flow
    from tfcomp.exporters.latency.units import find_units
    from tfcomp.model.final_weights import FinalWeights

    final = FinalWeights(model)
    specs = [tf.TensorSpec((None, *shape.shape[1:]), shape.dtype) for shape in model.inputs]
    flow = layer_flow(model if len(specs) == 1 else lambda *x: model(x), specs, final.scope)
    return *find_units(flow, final), flow, final


def exported(model, folder, x, **arguments):
    """What an export for latency computes, and its table."""
    import tensorflow as tf

    done = tfcomp.export(model, folder, optimize="latency", verbose=0, **arguments)
    served = tf.saved_model.load(str(folder))
    return served.serve(x), done


def drawn(*shape, seed=3):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def stored(folder):
    """Bytes of the coded weights of an export."""
    return sum(file.stat().st_size for file in (folder / "assets").iterdir())
