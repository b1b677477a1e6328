"""Numbers of channels that whatever is split can have."""

import itertools

import keras
import numpy as np
import pytest
from keras import layers
from surgery.channels.zoo import shuffle

import tfcomp
from tfcomp.surgery.channels.nearest import Coupled


def by_trial(part, wanted, round_to, unfit):
    """What the groups of the best numbers are off in all, of all numbers there are."""
    best = np.inf
    for counts in itertools.product(*(range(size + 1) for size in part.sizes)):
        counts = np.array([*counts, 1])
        totals = {group: counts[members].sum() for group, members in part.groups.items()}
        wholes = {group: part.sizes[members].sum() for group, members in part.groups.items()}
        if any(len(set(rows @ counts)) > 1 for rows in part.places):
            continue
        if any(row @ counts < min(2, row @ np.array([*part.sizes, 1])) for row in part.floors):
            continue
        if any(total % round_to and total != wholes[g] for g, total in totals.items()):
            continue
        if any(all(totals[g] == number for g, number in each.items()) for each in unfit):
            continue
        off = sum(abs(totals[g] - wanted[members].sum()) for g, members in part.groups.items())
        best = min(best, off)
    return best


def random_part(rng):
    """Two convolutions of two groups each, with a shuffle between, beside what stays."""
    sizes = rng.integers(1, 5, 4)
    # Cell (g, r) is made by group g and read by group r; two channels of each stay.
    makes = np.array([[1, 1, 0, 0, 0], [0, 0, 1, 1, 0]])
    reads = np.array([[1, 0, 1, 0, 0], [0, 1, 0, 1, 0]])
    sizes[3] = sizes[0] + sizes[1] - sizes[2]
    sizes[1] = sizes[2]
    sizes[3] = sizes[0]
    groups = {frozenset({(0, 0)}): np.array([0, 1, 2, 3])}
    if rng.integers(2):
        groups = {frozenset({(0, g)}): np.array([2 * g, 2 * g + 1]) for g in range(2)}
    return Coupled(np.arange(4), sizes, groups, [makes, reads], [*makes, *reads])


@pytest.mark.parametrize("seed", range(40))
def test_the_nearest_numbers(seed):
    rng = np.random.default_rng(seed)
    part = random_part(rng)
    round_to, wanted = int(rng.integers(1, 4)), part.sizes * (1 - rng.uniform(0.1, 0.9))
    unfit = []
    for _ in range(3):
        found = part.nearest(wanted, np.zeros(4, int), round_to, unfit)
        if found is None:
            assert by_trial(part, wanted, round_to, unfit) == np.inf
            break
        totals = {group: int(found[members].sum()) for group, members in part.groups.items()}
        off = sum(abs(totals[g] - wanted[members].sum()) for g, members in part.groups.items())
        best = by_trial(part, wanted, round_to, unfit)
        # What is rounded plainly may be off by half of what is rounded to, for each group.
        assert best - 1e-6 <= off <= best + len(part.groups) * round_to / 2 + 1e-6
        assert part._suit(found, found.astype(float), round_to, unfit) or round_to > 1
        unfit.append(totals)


def test_all_numbers_may_be_excluded():
    part = random_part(np.random.default_rng(0))
    single = part._replace(groups={frozenset({(0, 0)}): np.arange(4)})
    every = [dict.fromkeys(single.groups, n) for n in range(part.sizes.sum() + 1)]
    assert single.nearest(part.sizes / 2, np.zeros(4, int), 1, every) is None


def test_a_shuffle_that_two_thirds_do_not_fit():
    """Of 12 channels in four groups of three, shuffled, 8 would be read by other groups.

    Channel s of group g stands at 4 s + g, so that group (4 s + g) // 3 reads it: 0, 1 and 2 read
    group 0, and 0, 1 and 3 read group 1. Of two in each, at 4 s + g again, groups 0 and 2 read both
    groups 0 and 1. One in each is less than a grouped convolution can read.
    """
    model = shuffle(4)
    with pytest.warns(UserWarning, match="'shuffle_unit.*/compress/kernel' keeps all its channels"):
        done = tfcomp.prune_channels(model, 0.25, verbose=0)
    whole = [path for path, reason in done.left_out if "keeps all its channels" in reason]
    assert len(whole) == 2 and all("compress" in path for path in whole)
    after = {row.path: (row.before, row.after) for row in done}
    assert all(after < before for before, after in after.values())
    with pytest.raises(ValueError, match=r"Layer 'shuffle_unit.*/compress/kernel' keeps all"):
        tfcomp.prune_channels(model, 0.25, unknown="error", verbose=0)


def test_a_quarter_of_the_channels_of_eight_groups():
    """Each group of a convolution keeps a quarter, though some pairs of groups keep nothing."""
    model = tfcomp.applications.ShuffleNet(input_shape=(32, 32, 3), classes=10, groups=8)
    done = tfcomp.prune_channels(model, 0.75, verbose=0)
    for row in done:
        assert row.after == row.before / 4 or (row.before, row.after) in ((24, 8), (360, 88))


@pytest.mark.parametrize("ratio", np.linspace(0.1, 0.9, 5))
def test_groups_stay_even_for_any_part(ratio):
    inputs = keras.Input((6, 6, 3))
    x = layers.Conv2D(18, 1)(inputs)
    x = layers.Conv2D(24, 1, groups=3)(x)
    x = layers.Conv2D(12, 1, groups=6)(tfcomp.layers.ChannelShuffle(3)(x))
    model = keras.Model(inputs, layers.Dense(2)(layers.Flatten()(x)))
    done = tfcomp.prune_channels(model, ratio, verbose=0)
    for layer in done.model.layers:
        if isinstance(layer, layers.Conv2D) and layer.groups > 1:
            assert layer.filters % layer.groups == 0 and layer.input.shape[-1] % layer.groups == 0
