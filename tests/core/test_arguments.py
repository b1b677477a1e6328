"""What every callback does with the arguments of its constructor."""

import functools
import inspect
import re

import keras
import numpy as np
import pytest

import tfcomp
from tfcomp.callbacks import __all__ as EVERY

# OnceCompressed wraps another callback, and takes that alone; FlipRatio changes no weight.
NAMES = [name for name in EVERY if name not in ("OnceCompressed", "FlipRatio")]
SCHEDULE = tfcomp.schedules.ConstantSparsity(0.5, begin_step=0)
PRUNING = [
    {"schedule": SCHEDULE, "scope": "global", "block_size": (None, 1), "block_pooling": "max"},
    {"schedule": SCHEDULE, "vector_size": 16},
    {"schedule": SCHEDULE, "m_by_n": (1, 2)},
    {"schedule": SCHEDULE, "per_gate": True},
]
# Values that no default is; several calls where arguments exclude each other.
GIVEN = {
    "ProjectionCallback": {},
    "BinaryRelax": {
        "quantizer": tfcomp.quantizers.Binary(),
        "strength": 2.0,
        "growth": 1.5,
        "exact": 0.5,
    },
    "ChannelPruning": {"schedule": SCHEDULE, "score": "bn_scale", "round_to": 2},
    "DynamicNetworkSurgery": {
        "c": 0.5,
        "gamma": 1e-3,
        "power": 2.0,
        "begin_step": 1,
        "end_step": 9,
        "slack": 0.2,
        "seed": 3,
    },
    "GradualPruning": PRUNING,
    "HashContinuation": {"gamma": 0.1, "power": 1.0, "stages": (1, 2), "steps_per_stage": 5},
    "IncrementalQuantization": {
        "bits": 4,
        "portions": (0.5, 1.0),
        "steps": (0, 7),
        "partition": "random",
        "seed": 3,
        "clip": 2.0,
    },
    "MagnitudePruning": {
        "quality": 0.5,
        "rounds": 2,
        "steps": (0, 7),
        "dropout": False,
        "dead_neurons": False,
    },
    "PreserveSparsity": {},
    "QuantizedTraining": {"quantizer": tfcomp.quantizers.Binary()},
    "SensitivityPruning": PRUNING,
    "SoftWeightSharing": {
        "samples": 7,
        "components": 3,
        "tau": 0.1,
        "zero_proportion": 0.9,
        "zero_proportion_prior": (3.0, 2.0),
        "zero_precision_prior": (5.0, 4.0),
        "precision_prior": (7.0, 6.0),
        "mean_rate": 0.1,
        "variance_rate": 0.2,
        "mixing_rate": 0.3,
        "merge": 0.01,
        "scope": "layer",
    },
    "WeightSharing": [{"bits": 3, "init": "random", "begin_step": 2, "seed": 3}, {"clusters": 5}],
}
COMMON = {"targets": "dense", "verbose": 2, "optimizer": "generator_optimizer"}
LAST = ("targets", "verbose", "optimizer")


def made(name):
    """Pairs of a callback and the arguments it was made with, which come to all it takes."""
    calls = GIVEN[name] if isinstance(GIVEN[name], list) else [GIVEN[name]]
    known = inspect.signature(getattr(tfcomp.callbacks, name)).parameters
    common = {key: value for key, value in COMMON.items() if key in known}
    assert set(common).union(*calls) == set(known)
    for given in calls:
        callback = getattr(tfcomp.callbacks, name)(**common, **given)
        defaults = {key: parameter.default for key, parameter in known.items()}
        yield callback, {**defaults, **common, **given}


@pytest.mark.parametrize("name", NAMES)
def test_arguments_are_attributes(name):
    for callback, arguments in made(name):
        for key, value in arguments.items():
            assert getattr(callback, key) == value, key


@pytest.mark.parametrize("name", NAMES)
def test_all_end_alike(name):
    known = tuple(inspect.signature(getattr(tfcomp.callbacks, name)).parameters)
    assert known[-3:] == LAST if name != "HashContinuation" else known[-1] == "verbose"


@pytest.mark.parametrize("name", NAMES)
def test_verbose_is_checked(name):
    given = GIVEN[name][0] if isinstance(GIVEN[name], list) else GIVEN[name]
    make = getattr(tfcomp.callbacks, name)
    for wrong in (1.0, 3, -1, "1", None):
        with pytest.raises(ValueError, match="argument `verbose`"):
            make(**{**given, "verbose": wrong})
    assert make(**{**given, "verbose": True}).verbose == 1


@pytest.mark.parametrize(
    "make, line",
    [
        (tfcomp.callbacks.DynamicNetworkSurgery, r"\w+: epoch 1: sparsity 0\.\d{4}\n"),
        (tfcomp.callbacks.PreserveSparsity, r"\w+: sparsity 0\.5000\n"),
        (
            functools.partial(tfcomp.callbacks.SoftWeightSharing, samples=4, components=3),
            r"\w+: [1-4] values are left\n",
        ),
    ],
)
def test_verbose_without_a_schedule(make, line, capsys):
    for verbose, expected in [(0, ""), (1, line)]:
        model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(4, use_bias=False)])
        model.set_weights([np.random.default_rng(0).normal(size=(4, 4)) * [1, 0, 1, 0]])
        model.compile("sgd", "mse")
        callback = make(verbose=verbose)
        model.fit(np.ones((4, 4)), np.ones((4, 4)), verbose=0, callbacks=[callback])
        assert re.fullmatch(expected, capsys.readouterr().out.strip("\n") + "\n" * verbose)
