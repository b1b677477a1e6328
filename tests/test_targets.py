"""Targets: every form of rule on every kind of model, and what is said when nothing matches."""

import re

import keras
import numpy as np
import pytest

import tfcomp
from tfcomp import layers, targets


def functional():
    image = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(4, 3, name="conv")(image)
    x = keras.layers.BatchNormalization(name="norm")(x)
    x = keras.layers.SeparableConv2D(4, 3, name="separable")(x)
    x = keras.layers.Reshape((4, 16))(x)
    x = keras.layers.Bidirectional(
        keras.layers.LSTM(3, return_sequences=True, name="lstm"), name="both"
    )(x)
    x = keras.layers.MultiHeadAttention(2, 4, name="attend")(x, x)
    x = keras.layers.PReLU(name="prelu")(x)
    x = keras.layers.Flatten()(x)
    nested = keras.Sequential([keras.Input((24,)), keras.layers.Dense(5, name="deep")], name="nest")
    shared = keras.layers.Dense(5, name="shared")
    return keras.Model(image, shared(shared(nested(x))))


KERNELS = [
    "conv/kernel",
    "separable/depthwise_kernel",
    "separable/pointwise_kernel",
    "both/forward_lstm/lstm_cell/kernel",
    "both/forward_lstm/lstm_cell/recurrent_kernel",
    "both/backward_lstm/lstm_cell/kernel",
    "both/backward_lstm/lstm_cell/recurrent_kernel",
    "attend/query/kernel",
    "attend/key/kernel",
    "attend/value/kernel",
    "attend/attention_output/kernel",
    "nest/deep/kernel",
    "shared/kernel",
]


def paths(model, rule):
    return [target.path for target in targets.find(model, rule)]


def test_none_means_every_kernel():
    assert paths(functional(), None) == KERNELS


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("conv", ["conv/kernel"]),
        ("deep", ["nest/deep/kernel"]),
        ("nest/deep", ["nest/deep/kernel"]),
        ("nest", ["nest/deep/kernel"]),
        ("conv/bias", ["conv/bias"]),
        ("attend", KERNELS[7:11]),
        (re.compile("recurrent"), [KERNELS[4], KERNELS[6]]),
        (re.compile("^both/forward"), KERNELS[3:5]),
        (keras.layers.LSTM, KERNELS[3:7]),
        (keras.layers.Dense, KERNELS[11:]),
        (["conv", keras.layers.Dense], ["conv/kernel", *KERNELS[11:]]),
        (lambda layer, variable: variable.shape[-1] == 5, KERNELS[11:]),
        (
            {keras.layers.LSTM: None, "attend": None, "separable": None},
            ["conv/kernel", *KERNELS[11:]],
        ),
        ({...: None, "shared": {}}, ["shared/kernel"]),
    ],
)
def test_rules(rule, expected):
    assert paths(functional(), rule) == expected


def test_layers_and_variables_are_rules():
    model = functional()
    layer = model.get_layer("shared")
    assert paths(model, layer) == ["shared/kernel"]
    assert paths(model, layer.kernel) == ["shared/kernel"]
    assert paths(model, [layer.bias, layer.kernel]) == ["shared/kernel", "shared/bias"]
    assert paths(model, model.get_layer("nest").layers[0].kernel.path) == ["nest/deep/kernel"]


def test_the_most_precise_rule_wins_whatever_the_order():
    rules = [
        ("shared", {"by": "name"}),
        (re.compile("shared"), {"by": "pattern"}),
        (lambda layer, variable: layer.name == "shared", {"by": "callable"}),
        (keras.layers.Dense, {"by": "type"}),
        (..., {"by": "rest"}),
    ]
    model = functional()
    for count in range(1, len(rules) + 1):
        for order in (1, -1):
            chosen = dict(rules[-count:][::order])
            found = {t.path: t.options for t in targets.find(model, chosen)}
            assert found["shared/kernel"] == rules[-count][1]
            assert found["conv/kernel"] == {"by": "rest"}
    later = {keras.layers.Dense: {"by": 1}, keras.layers.Layer: {"by": 2}}
    assert targets.find(model, later)[-1].options == {"by": 2}


def test_a_name_is_not_a_prefix_of_other_names():
    model = keras.Sequential(
        [
            keras.Input((4,)),
            keras.layers.Dense(4, name="dense"),
            keras.layers.Dense(4, name="dense_1"),
        ]
    )
    assert paths(model, "dense") == ["dense/kernel"]
    assert paths(model, {"dense": None}) == ["dense_1/kernel"]
    assert paths(model, re.compile("dense")) == ["dense/kernel", "dense_1/kernel"]
    for pattern in ("dense.*", "^dense$", "kernel", "ense", "dense_[0-9]"):
        for rule in (pattern, [pattern], {pattern: None}):
            with pytest.raises(ValueError, match=re.escape(f"re.compile({pattern!r})")):
                paths(model, rule)
    with pytest.raises(ValueError) as error:
        paths(model, "dense_2")
    assert "Did you mean 'dense" in str(error.value) and "re.compile" not in str(error.value)


def test_rules_of_layers_are_no_patterns_either():
    model = functional()
    with pytest.raises(ValueError, match=r"argument `rules`.*re\.compile\('con'\)"):
        tfcomp.swap_layers(model, {"con": None})
    x = np.ones((1, 8, 8, 3), "float32")
    with pytest.raises(ValueError, match=r"argument `targets`.*re\.compile\('con'\)"):
        tfcomp.quantize_activations(model, data=x, targets={"con": {"bits": 4}}, verbose=0)


def test_targets_tell_whether_the_user_named_them():
    def named(rule):
        return {t.layer.name for t in targets.find(model, rule) if t.named}

    model = functional()
    assert named(None) == named({"conv": None}) == named({...: {"a": 1}}) == set()
    assert named({"conv": {}, ...: {"a": 1}}) == named("conv") == named(["conv"]) == {"conv"}
    assert named(re.compile("conv")) == {"conv"}
    same = {"a": 1}
    model.get_layer("nest").trainable = False
    # What `...` stands for is the default set, whichever dict is its value.
    assert named({"deep": same, ...: same}) == {"deep"}


class Block(keras.layers.Layer):
    def __init__(self):
        super().__init__(name="block")
        self.first = keras.layers.Dense(3, name="first")

    def build(self, shape):
        self.first.build(shape)
        self.own = self.add_weight(shape=(3, 3), name="mixing")

    def call(self, x):
        return keras.ops.matmul(self.first(x), self.own)


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.blocks = [Block(), Block()]
        self.top = self.add_weight(shape=(3, 2), name="top")

    def call(self, x):
        for block in self.blocks:
            x = block(x)
        return keras.ops.matmul(x, self.top)


def test_subclassed_models_with_equal_names():
    model = Subclassed()
    model(np.ones((2, 3)))
    assert sorted(paths(model, None)) == [
        "block/first/kernel",
        "block/first/kernel#1",
        "block/mixing",
        "block/mixing#1",
        "top",
    ]
    assert len({id(t.variable) for t in targets.find(model)}) == 5
    assert paths(model, "block/mixing#1") == ["block/mixing#1"]


def test_what_a_layer_quantizes_itself_is_left_out_unless_named():
    model = keras.Sequential(
        [
            keras.Input((4,)),
            layers.TernaryDense(4, name="ternary"),
            layers.HashedDense(4, name="hashed"),
            keras.layers.Dense(2, name="plain"),
        ]
    )
    assert paths(model, None) == ["plain/kernel"]
    model.get_layer("plain").trainable = False
    assert targets.not_default(model) == [
        ("ternary/kernel", "its layer quantizes it"),
        ("plain/kernel", "it is frozen"),
    ]
    with pytest.raises(ValueError, match=r"covers no weight(?s:.*)plain/kernel: it is frozen"):
        targets.find(model)
    assert paths(model, "ternary") == ["ternary/kernel"]
    assert paths(model, "hashed/hashed_kernel") == ["hashed/hashed_kernel"]


@pytest.mark.parametrize(
    ("layer", "rule", "why"),
    [
        (
            layers.BinaryDense(3, name="own"),
            None,
            "all of its 1 kernel-like weights are left out for one reason, its layer quantizes it:"
            "\n  own/kernel: its layer quantizes it.",
        ),
        (
            keras.layers.Dense(3, name="own", trainable=False),
            None,
            "all of its 1 kernel-like weights are left out for one reason, it is frozen:",
        ),
        (
            keras.layers.BatchNormalization(),
            None,
            "it has no kernel-like weight, which is one of floating numbers and two axes or more "
            "that is no bias, scale or statistic. Its weights are called gamma, beta, moving_mean,",
        ),
        (layers.HashedDense(3), None, "Its weights are called hashed_kernel, bias."),
        (keras.layers.Dense(3), {...: None}, "it leaves out each of its 1."),
    ],
)
def test_an_error_says_why_nothing_is_covered(layer, rule, why):
    model = keras.Sequential([keras.Input((4,)), layer], name="m")
    with pytest.raises(ValueError) as error:
        targets.find(model, rule)
    assert f"{rule!r} covers no weight of model 'm': " in str(error.value)
    assert why in str(error.value)


def test_of_different_reasons_each_is_told():
    stack = [keras.layers.Dense(3, trainable=False), layers.TernaryDense(3)]
    model = keras.Sequential([keras.Input((4,)), *stack])
    message = (
        r"all of its 2 kernel-like weights are left out:\n  .*: it is frozen\n  .*quantizes it\."
    )
    with pytest.raises(ValueError, match=message):
        targets.find(model)


def test_the_default_set_can_be_what_layers_quantize():
    stack = [keras.layers.Dense(3, name="plain"), layers.TernaryDense(3, name="a")]
    stack += [layers.BinaryDense(3, name="b", trainable=False)]
    model = keras.Sequential([keras.Input((4,)), *stack])

    def covered(rule):
        return [target.path for target in targets.find(model, rule, quantized=True)]

    assert covered(None) == ["a/kernel", "b/kernel"]
    assert covered({"a": None}) == ["b/kernel"]
    assert covered("plain") == ["plain/kernel"]
    plain = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    with pytest.raises(ValueError, match="none of its layers quantizes a kernel"):
        targets.find(plain, quantized=True)


def test_frozen_weights_are_left_out_unless_named():
    model = functional()
    model.get_layer("nest").trainable = False
    assert "nest/deep/kernel" not in paths(model, None)
    assert paths(model, "deep") == ["nest/deep/kernel"]


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ("sharde", r"'sharde' matches nothing.*Did you mean 'shared'"),
        (re.compile("nothing"), r"matches nothing in this model(?s:.*)conv/kernel"),
        (keras.layers.Conv3D, "matches nothing"),
        (lambda layer, variable: False, "matches nothing"),
        ("(", "matches nothing"),
        (3, "a layer name or path, a compiled regular expression"),
        ([], "at least one rule"),
        ({"conv": 0.5}, "a dict of overrides or None as each value"),
        ({...: None}, "covers no weight"),
    ],
)
def test_errors_name_the_argument_and_what_could_have_matched(rule, message):
    with pytest.raises(ValueError, match=f"argument `somewhere`.*{message}"):
        targets.find(functional(), rule, argument="somewhere")


def test_unbuilt_model():
    with pytest.raises(ValueError, match="has no weights yet"):
        targets.find(keras.Sequential([keras.layers.Dense(2)]))
    with pytest.raises(ValueError, match="argument `model`"):
        targets.find(keras.layers.Dense(2))


def test_a_layer_used_alone_and_in_a_nested_model_holds_its_own_weights():
    shared = keras.layers.Dense(4, name="shared")
    inner = keras.Sequential([keras.Input((4,)), shared], name="inner")
    x = keras.Input((4,))
    model = keras.Model(x, shared(inner(x)))
    (target,) = targets.find(model)
    assert target.layer is shared


def test_layer_sites_list_every_layer_once():
    names = [site.path for site in targets.layer_sites(functional())]
    assert len(names) == len(set(names))
    assert {"both/forward_lstm/lstm_cell", "attend/query", "nest/deep", "shared"} <= set(names)
    assert names.index("nest") < names.index("nest/deep")
