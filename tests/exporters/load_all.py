"""Runs in a process of its own: loads exported models with TensorFlow alone, in both ways."""

import pathlib
import sys

if __name__ == "__main__":
    # Whatever the artifacts need of these is an error.
    sys.modules["keras"] = sys.modules["tfcomp"] = None

import numpy as np


def _arrays(path):
    with np.load(path, allow_pickle=True) as file:
        return dict(file)


def main(root):
    import tensorflow as tf

    for folder in sorted(root.iterdir()):
        inputs = _arrays(folder / "inputs.npz")
        path = str(folder / "model")
        results = {}

        loaded = tf.saved_model.load(path)
        twice = tf.saved_model.load(path)
        serve = loaded.signatures["serving_default"]
        out = serve(**{name: tf.constant(value) for name, value in inputs.items()})
        results |= {f"v2_{name}": value.numpy() for name, value in out.items()}
        # One load does not take the weights of another along when it goes.
        del loaded, serve, out
        serve = twice.signatures["serving_default"]
        out = serve(**{name: tf.constant(value) for name, value in inputs.items()})
        results |= {f"twice_{name}": value.numpy() for name, value in out.items()}

        with tf.Graph().as_default(), tf.compat.v1.Session() as session:
            meta = tf.compat.v1.saved_model.load(session, ["serve"], path)
            signature = meta.signature_def["serving_default"]
            feed = {signature.inputs[name].name: value for name, value in inputs.items()}
            fetch = {name: tensor.name for name, tensor in signature.outputs.items()}
            out = session.run(fetch, feed)
        results |= {f"v1_{name}": value for name, value in out.items()}
        np.savez(folder / "outputs.npz", **results)


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
