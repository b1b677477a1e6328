"""Parameters and multiply-adds of the networks, counted by `tfcomp.summary`, as the papers say."""

import numpy as np
import pytest

import tfcomp
from tfcomp.applications import GoogLeNet, MobileNet, ShuffleNet, SqueezeNet


def counted(model):
    """Dict from the name of a module to its weights and multiply-adds, and the totals."""
    # All alike, which is quick to look at.
    for variable in model.variables:
        variable.assign(np.zeros(variable.shape))
    modules = {}
    summed = tfcomp.summary(model, print_table=False)
    assert summed.macs_complete and summed.weights == model.count_params()
    for row in summed.layers:
        weights, macs = modules.get(row.path.split("/")[0], (0, 0))
        added = sum(row.macs.values())
        modules[row.path.split("/")[0]] = weights + row.weights, macs + added
    return modules, summed.weights, sum(summed.macs.values())


# Table 1 of the paper: parameters of each layer, and the size of its outputs, whose channels the
# multiply-adds follow from by hand: biases are no products.
SQUEEZENET = {
    "conv1": (14_208, 111**2 * 49 * 3 * 96),
    "fire2": (11_920, 55**2 * (96 * 16 + 16 * 64 + 9 * 16 * 64)),
    "fire3": (12_432, 55**2 * (128 * 16 + 16 * 64 + 9 * 16 * 64)),
    "fire4": (45_344, 55**2 * (128 * 32 + 32 * 128 + 9 * 32 * 128)),
    "fire5": (49_440, 27**2 * (256 * 32 + 32 * 128 + 9 * 32 * 128)),
    "fire6": (104_880, 27**2 * (256 * 48 + 48 * 192 + 9 * 48 * 192)),
    "fire7": (111_024, 27**2 * (384 * 48 + 48 * 192 + 9 * 48 * 192)),
    "fire8": (188_992, 27**2 * (384 * 64 + 64 * 256 + 9 * 64 * 256)),
    "fire9": (197_184, 13**2 * (512 * 64 + 64 * 256 + 9 * 64 * 256)),
    "conv10": (513_000, 13**2 * 512 * 1000),
}


def test_squeezenet_by_layer():
    modules, weights, macs = counted(SqueezeNet(version="1.0"))
    assert modules == SQUEEZENET
    assert weights == 1_248_424 and macs == sum(m for _, m in SQUEEZENET.values()) == 832_667_936


def test_squeezenet_1_1():
    """Pooling comes earlier: modules work on 56, 28 and 14 positions a side."""
    modules, weights, macs = counted(SqueezeNet())
    assert weights == 1_235_496
    assert modules["conv1"] == (64 * 27 + 64, 113**2 * 27 * 64)
    assert modules["fire3"] == (12_432, 56**2 * (128 * 16 + 16 * 64 + 9 * 16 * 64))
    assert modules["fire5"] == (49_440, 28**2 * (256 * 32 + 32 * 128 + 9 * 32 * 128))
    assert modules["conv10"] == (513_000, 14**2 * 512 * 1000)
    assert macs == 387_747_520


@pytest.mark.slow
def test_squeezenet_with_bypass():
    _, weights, macs = counted(SqueezeNet(version="1.0", bypass="simple"))
    assert (weights, macs) == (1_248_424, 832_667_936)
    modules, weights, macs = counted(SqueezeNet(version="1.0", bypass="complex"))
    added = {"fire2": (96, 128, 55), "fire4": (128, 256, 55)}
    added |= {"fire6": (256, 384, 27), "fire8": (384, 512, 27)}
    for name, (before, after, side) in added.items():
        plain, products = SQUEEZENET[name]
        here = plain + before * after + after, products + side**2 * before * after
        assert modules.pop(name) == here
    assert modules == {name: SQUEEZENET[name] for name in modules}
    assert weights == 1_248_424 + 341_248


# Alpha, height and width, millions of multiply-adds and of parameters: tables 6 and 7. Where the
# paper's last digit is not the nearest, it was cut off.
MOBILENET = [
    (1.0, 224, 569, 4.2),
    (0.75, 224, 325, 2.6),
    (0.5, 224, 149, 1.3),
    (0.25, 224, 41, 0.5),
    (1.0, 192, 418, 4.2),
    (1.0, 160, 290, 4.2),
    (1.0, 128, 186, 4.2),
]


def mobilenet(alpha, side):
    """Weights and products, statistics of the norms with the weights."""
    side, before = side // 2, int(32 * alpha)
    weights, macs = 27 * before + 4 * before, side**2 * 27 * before
    for filters, strides in (
        [(64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2)]
        + [(512, 1)] * 5
        + [(1024, 2), (1024, 1)]
    ):
        side, after = side // strides, int(filters * alpha)
        weights += 9 * before + 4 * before + before * after + 4 * after
        macs += side**2 * before * (9 + after)
        before = after
    return weights + 1000 * before + 1000, macs + 1000 * before


@pytest.mark.parametrize(
    ("alpha", "side", "millions", "parameters"),
    [MOBILENET[0], *(pytest.param(*row, marks=pytest.mark.slow) for row in MOBILENET[1:])],
)
def test_mobilenet(alpha, side, millions, parameters):
    model = MobileNet(input_shape=(side, side, 3), alpha=alpha)
    _, weights, macs = counted(model)
    assert (weights, macs) == mobilenet(alpha, side)
    assert millions in (macs // 10**6, round(macs / 10**6))
    trained = sum(int(np.prod(v.shape)) for v in model.trainable_variables)
    assert parameters == round(trained / 10**6, 1)


SHUFFLENET = {1: 144, 2: 200, 3: 240, 4: 272, 8: 384}
# Groups, scale, and the millions of multiply-adds in the paper's tables 1, 2 and 5. Those of table
# 1 are the nearest without the classifier. Tables 2 and 5 give one number for all groups of a
# scale.
SHUFFLENET_TABLE_1 = {1: 143, 2: 140, 3: 137, 4: 133, 8: 137}
SHUFFLENET_SCALES = {(3, 2.0): 524, (3, 1.5): 292}
SHUFFLENET_SCALES |= {(g, 0.5): 38 for g in SHUFFLENET}
SHUFFLENET_SCALES |= {(g, 0.25): 13 for g in SHUFFLENET}


def shufflenet(groups, scale, side=224):
    """Weights, and products of the classifier and of everything else."""
    first = {0.25: 12, 0.5: 12, 1: 24, 1.5: 24, 2: 48}[scale]
    # In eight groups the 12 channels of the narrow ones are none.
    before = 16 if (groups, first) == (8, 12) else first
    side //= 2
    weights, macs = 27 * before + 4 * before, side**2 * 27 * before
    side //= 2
    for stage, units in enumerate((4, 8, 4)):
        after = int(SHUFFLENET[groups] * scale) * 2**stage
        inside = groups * int(after // 4 / groups + 0.5)
        for unit in range(units):
            made = after if unit else after - before
            compress = before * inside // (groups if stage + unit else 1)
            macs += side**2 * compress
            side = side if unit else side // 2
            macs += side**2 * (9 * inside + inside * made // groups)
            weights += compress + 9 * inside + inside * made // groups
            weights += 4 * (2 * inside + made)
            before = after
    return weights + 1000 * before + 1000, 1000 * before, macs


@pytest.mark.parametrize(
    ("groups", "scale"),
    [
        pytest.param(g, s, marks=[] if (g, s) in ((8, 0.5), (4, 1)) else pytest.mark.slow)
        for g in SHUFFLENET
        for s in (0.25, 0.5, 1, 1.5, 2)
    ],
)
def test_shufflenet(groups, scale):
    _, weights, macs = counted(ShuffleNet(groups=groups, scale=scale))
    expected, classifier, rest = shufflenet(groups, scale)
    assert (weights, macs) == (expected, classifier + rest)
    if scale == 1:
        assert round(rest / 10**6) == SHUFFLENET_TABLE_1[groups]
    elif groups < 8 and (groups, scale) in SHUFFLENET_SCALES:
        said = SHUFFLENET_SCALES[groups, scale]
        assert abs(macs / 10**6 - said) < (1 if scale < 1 else 0.5)


# The paper's table 1: millions of operations, thousands (of 1024) of parameters; beside them the
# weights that its own columns of filters make, without biases, and the positions of the outputs.
GOOGLENET = {
    "conv2": (360, 112, 64 * 64 + 9 * 64 * 192, 56),
    "inception_3a": (128, 159, 163_328, 28),
    "inception_3b": (304, 380, 388_096, 28),
    "inception_4a": (73, 364, 375_552, 14),
    "inception_4b": (88, 437, 448_512, 14),
    "inception_4c": (100, 463, 509_440, 14),
    "inception_4d": (119, 580, 604_672, 14),
    "inception_4e": (170, 840, 867_328, 14),
    "inception_5a": (54, 1072, 1_042_432, 7),
    "inception_5b": (71, 1388, 1_442_816, 7),
    "predictions": (1, 1000, 1_024_000, 1),
}
# Where the paper's numbers do not follow from its columns.
GOOGLENET_PARAMETERS_DIFFER = {"inception_4a", "inception_4b", "inception_4c", "inception_4d"}
GOOGLENET_PARAMETERS_DIFFER |= {"inception_4e", "inception_5a", "inception_5b"}
GOOGLENET_OPERATIONS_DIFFER = {"inception_5a"}


def branches(channels, conv1x1, reduce3, conv3x3, reduce5, conv5x5, pool):
    """Weights of an inception module without biases."""
    in_branches = channels * (conv1x1 + reduce3 + reduce5 + pool)
    return in_branches + 9 * reduce3 * conv3x3 + 25 * reduce5 * conv5x5


def nearest(number, unit):
    return {int(number / unit), round(number / unit)}


def test_googlenet_by_module():
    modules, weights, macs = counted(GoogLeNet())
    assert weights == 6_998_552 and macs == 1_582_671_872
    assert GOOGLENET["inception_3a"][2] == branches(192, 64, 96, 128, 16, 32, 32)
    assert GOOGLENET["inception_5b"][2] == branches(832, 384, 192, 384, 48, 128, 128)
    # The paper counts the first convolution as 7×1 and 1×7: 2.7 thousand and 34 million.
    assert modules.pop("conv1") == (49 * 3 * 64 + 64, 112**2 * 49 * 3 * 64)
    reduce = modules.pop("conv2_reduce")
    modules["conv2"] = tuple(a + b for a, b in zip(reduce, modules["conv2"]))
    assert set(modules) == set(GOOGLENET)
    for name, (millions, thousands, products, side) in GOOGLENET.items():
        all_weights, counted_macs = modules[name]
        assert counted_macs == products * side**2
        found = nearest(counted_macs, 10**6)
        assert (millions in found) != (name in GOOGLENET_OPERATIONS_DIFFER), name
        found = nearest(products, 1024) | nearest(all_weights, 1024)
        assert (thousands in found) != (name in GOOGLENET_PARAMETERS_DIFFER), name
        assert abs(thousands * 1024 / products - 1) < 0.08


@pytest.mark.slow
def test_auxiliary_classifiers_of_googlenet():
    modules, weights, _ = counted(GoogLeNet(auxiliary=True))
    assert weights == 13_378_280
    dense = 4 * 4 * 128 * 1024 + 1024 + 1024 * 1000 + 1000
    assert weights == 6_998_552 + (512 + 528) * 128 + 2 * 128 + 2 * dense
    assert modules["auxiliary1_conv"] == (512 * 128 + 128, 4 * 4 * 512 * 128)
