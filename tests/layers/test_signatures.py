"""What a user sees of a layer before running it: signature, docstring, config."""

import ast
import functools
import inspect
import json
import pathlib
import re
import runpy

import keras
import numpy as np
import pytest

import tfcomp
from tfcomp import layers
from tfcomp.quantizers import Binary, ResidualBinary

CLASSES = [
    cls
    for cls in (getattr(layers, name) for name in layers.__all__)
    if issubclass(cls, keras.layers.Layer)
]

REQUIRED = {
    "bits": 4,
    "conv1x1": 2,
    "conv3x3": [2, 3],
    "conv5x5": [1, 2],
    "equation": "ab,bc->ac",
    "expand": 3,
    "filters": 24,
    "groups": 2,
    "kernel_size": 3,
    "output_shape": 5,
    "pool": 2,
    "rank": 2,
    "squeeze": 2,
    "units": 3,
}

# For each argument of tfcomp's own that has a default, another value; switches are turned.
OTHERS = {
    "activation_bits": 4,
    "activation_format": "Q1.9",
    "activation": "tanh",
    "activity_regularizer": "l2",
    "alpha": 0.5,
    "balance": 0.5,
    "beta": 0.5,
    "bias_constraint": "non_neg",
    "bias_initializer": "ones",
    "bias_regularizer": "l1",
    "bits": 3,
    "bottleneck_ratio": 0.5,
    "buckets": 5,
    "codewords": 3,
    "compression": 0.5,
    "data_format": "channels_first",
    "depth_multiplier": 2,
    "depthwise_constraint": None,
    "depthwise_quantizer": "int8",
    "dilation_rate": 2,
    "epsilon": 0.1,
    "gradient_bits": 4,
    "groups": 2,
    "initial_beta": 2.0,
    "k": 2.0,
    "input_quantizer": "int8",
    "kernel_constraint": "non_neg",
    "kernel_initializer": "ones",
    "kernel_quantizer": "int8",
    "kernel_regularizer": "l2",
    "momentum": 0.5,
    "order": 3,
    "pad_value": -1,
    "padding": "valid",
    "pointwise_constraint": None,
    "pointwise_quantizer": "int8",
    "pool_size": 2,
    "product_format": "Q9.18",
    "rounding": "nearest",
    "seed": 7,
    "size": 3,
    "strides": 2,
    "subvector_size": 2,
    "sum_format": "Q8.9",
    "weight_bits": 4,
    "weight_format": "Q1.9",
    "weight_order": 2,
}

# These want another argument, too, or take one value alone.
NEEDS_MORE = [(layers.XNORBlock, "pool_strides"), (layers.BinarySeparableConv2D, "input_scale")]


def keras_base(cls):
    return next(base for base in cls.__mro__ if base.__module__.startswith("keras."))


def parameters(cls):
    found = list(inspect.signature(cls).parameters.values())
    return {p.name: p for p in found if p.kind is not p.VAR_KEYWORD}


def required(cls):
    return {n: REQUIRED[n] for n, p in parameters(cls).items() if p.default is p.empty}


def own(cls):
    """Arguments that Keras's layer does not have, or has with another default."""
    keras_ = inspect.signature(keras_base(cls)).parameters
    return [
        n for n, p in parameters(cls).items() if n not in keras_ or keras_[n].default != p.default
    ]


every_layer = pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)


@every_layer
def test_signature_names_every_argument(cls):
    found = parameters(cls)
    assert not [p for p in found.values() if p.kind is p.VAR_POSITIONAL]
    if keras_base(cls) is keras.layers.Layer:
        return
    plain = [name for name in parameters(keras_base(cls)) if name not in cls.refused_arguments]
    assert [name for name in found if name in plain] == plain


@every_layer
def test_the_constructor_takes_what_the_signature_says(cls):
    found, given = parameters(cls), required(cls)
    by_name = cls(**{name: given.get(name, p.default) for name, p in found.items()})
    lead = [p for p in found.values() if p.kind is p.POSITIONAL_OR_KEYWORD]
    by_position = cls(*(given.get(p.name, p.default) for p in lead), name=by_name.name)
    assert by_name.get_config() == by_position.get_config()
    assert by_name.get_config() == cls(**given, name=by_name.name).get_config()


def classes_in_source(path):
    tree = ast.parse(pathlib.Path(path).read_text())
    return {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}


@every_layer
def test_docstring_is_in_the_source_and_names_every_argument(cls):
    node = classes_in_source(inspect.getfile(cls))[cls.__name__]
    text = ast.get_docstring(node)
    assert text == inspect.cleandoc(cls.__doc__)
    missing = [n for n in own(cls) if not re.search(rf"`{n}\b|^ +{n}: ", text, re.MULTILINE)]
    assert not missing
    assert (
        keras_base(cls) is keras.layers.Layer
        or f"`keras.layers.{keras_base(cls).__name__}`" in text
    )


@every_layer
def test_arguments_are_attributes_and_in_the_config(cls):
    layer = cls(**required(cls))
    plain = keras_base(cls)
    names = own(cls) if plain is not keras.layers.Layer else parameters(cls)
    config = layer.get_config()
    assert not [name for name in names if not hasattr(layer, name)]
    assert not [name for name in names if name not in config]
    assert cls.from_config(config).get_config() == config


def changed():
    for cls in CLASSES:
        for name in own(cls):
            default = parameters(cls)[name].default
            if default is inspect.Parameter.empty or (cls, name) in NEEDS_MORE:
                continue
            value = not default if isinstance(default, bool) else OTHERS[name]
            yield cls, name, "same" if value == default == "valid" else value


@pytest.mark.parametrize(
    ("cls", "name", "value"), changed(), ids=lambda v: getattr(v, "__name__", str(v))
)
def test_a_chosen_value_is_kept(cls, name, value):
    layer = cls(**required(cls), **{name: value})
    config = layer.get_config()
    assert config[name] != cls(**required(cls)).get_config()[name]
    again = cls.from_config(config)
    assert again.get_config() == config
    if isinstance(value, (int, float)) and name not in ("strides", "dilation_rate"):
        assert getattr(again, name) == getattr(layer, name) == value


def test_the_stub_is_what_the_layers_take():
    """To write it anew: `python tests/layers/stub.py > tfcomp/layers/__init__.pyi`."""
    found = pathlib.Path(layers.__file__).with_suffix(".pyi").read_text()
    expected = runpy.run_path(pathlib.Path(__file__).with_name("stub.py"))["stub"]()
    if f"Keras {keras.__version__}." not in found:
        pytest.skip("Keras's own arguments differ from version to version")
    assert found == expected


def test_subclasses_add_to_the_signature():
    class Mine(layers.BinaryDense):
        def __init__(self, units, depth=1, **kwargs):
            super().__init__(units, **kwargs)

    names = list(parameters(Mine))
    assert names[:3] == ["units", "depth", "activation"] and "scale" in names
    assert parameters(Mine)["activation"].kind is inspect.Parameter.KEYWORD_ONLY
    called, plain = (
        inspect.signature(layers.BinaryDense(2)),
        inspect.signature(keras.layers.Dense(2)),
    )
    assert called == plain


def test_scales_and_orders_are_arguments_of_quantizers_that_are_given_by_name():
    config = layers.BinaryDense(2, scale=True).get_config()
    assert config["kernel_quantizer"] == "binary" and config["scale"] is True
    assert layers.BinaryDense.from_config({**config, "scale": False}).kernel_quantizer.levels
    config = layers.HORQDense(2, order=3).get_config()
    assert (config["input_quantizer"], config["order"]) == ("residual_binary", 3)
    assert layers.HORQDense.from_config({**config, "order": 1}).input_quantizer.order == 1


def test_quantizers_that_are_given_take_the_place_of_scales_and_orders():
    layer = layers.BinaryDense(2, kernel_quantizer=Binary(0.5, scale=True))
    assert layer.scale is True
    again = layers.BinaryDense.from_config(layer.get_config())
    assert again.kernel_quantizer.get_config() == layer.kernel_quantizer.get_config()
    layer = layers.HORQConv2D(2, 3, input_quantizer=ResidualBinary(4, clip_value=None))
    assert layer.order == layers.HORQConv2D.from_config(layer.get_config()).order == 4
    mixed = layers.BinarySeparableConv2D(2, 3, depthwise_quantizer=Binary(scale=True))
    again = layers.BinarySeparableConv2D.from_config(mixed.get_config())
    assert not mixed.scale and again.depthwise_quantizer.scale
    assert not again.pointwise_quantizer.scale


def test_contradictions_raise():
    for quantizer in (Binary(), None):
        with pytest.raises(ValueError, match="argument `scale`"):
            layers.BinaryDense(2, kernel_quantizer=quantizer, scale=True)
    with pytest.raises(ValueError, match=r"argument `order`.*4"):
        layers.HORQDense(2, order=3, input_quantizer=ResidualBinary(4))
    with pytest.raises(ValueError, match=r"argument `weight_order`"):
        layers.HORQDense(2, weight_order=9)


def test_swapping_overrides_a_scale():
    model = keras.Sequential([keras.Input((4,)), layers.BinaryDense(2, scale=True, name="a")])
    plain = functools.partial(layers.BinaryDense, scale=False)
    swapped = tfcomp.swap_layers(model, {"a": plain})
    assert not swapped.get_layer("a").scale


INTEGERS = [
    (layers.ChannelShuffle, "groups"),
    (layers.DepthwiseSeparableBlock, "depth_multiplier"),
    (layers.DepthwiseSeparableBlock, "filters"),
    (layers.DepthwiseSeparableBlock, "strides"),
    (layers.DoReFaDense, "activation_bits"),
    (layers.DoReFaDense, "gradient_bits"),
    (layers.DoReFaDense, "seed"),
    (layers.DoReFaDense, "weight_bits"),
    (layers.FactorizedConv2D, "filters"),
    (layers.FactorizedDense, "rank"),
    (layers.FactorizedDense, "units"),
    (layers.FireModule, "expand"),
    (layers.FireModule, "squeeze"),
    (layers.GradientQuantization, "bits"),
    (layers.GradientQuantization, "seed"),
    (layers.HORQConv2D, "order"),
    (layers.HORQConv2D, "weight_order"),
    (layers.HashCode, "bits"),
    (layers.HashedDense, "buckets"),
    (layers.HashedDense, "seed"),
    (layers.InceptionModule, "conv1x1"),
    (layers.InceptionModule, "pool"),
    (layers.LocalResponseNormalization, "size"),
    (layers.ProductQuantizedDense, "codewords"),
    (layers.ProductQuantizedDense, "seed"),
    (layers.ProductQuantizedDense, "subvector_size"),
    (layers.ShuffleUnit, "filters"),
    (layers.ShuffleUnit, "groups"),
    (layers.ShuffleUnit, "strides"),
    (layers.XNORBlock, "filters"),
    (layers.XNORBlock, "groups"),
    (layers.YodaConv2D, "filters"),
]


@pytest.mark.parametrize(("cls", "name"), INTEGERS, ids=lambda v: getattr(v, "__name__", v))
def test_integers_are_whole_numbers(cls, name):
    value = REQUIRED.get(name, OTHERS.get(name))
    config = cls(**{**required(cls), name: np.int64(value), "name": "a"}).get_config()
    assert config == cls(**{**required(cls), name: value, "name": "a"}).get_config()
    json.dumps(config)
    for bad in (1.5, float(value), True, str(value)):
        with pytest.raises(ValueError, match=f"argument `{name}`.*integer"):
            cls(**{**required(cls), name: bad})
