"""What training keeps beside a model's variables, for the model without some channels."""

import copy
import warnings

import keras
import numpy as np

from tfcomp import keras_private, targets
from tfcomp.core.attachment import attach, entries_of
from tfcomp.core.entry import as_numpy
from tfcomp.core.optimizers import leaves


def carry_projections(model, small, carried):
    """Attaches to the small model what callbacks have attached to the large one.

    Masks and latent weights are cut as their variables are; a mask in which nothing is masked any
    more is left behind.

    Args:
        model: The large model.
        small: The small one, compiled as the other is.
        carried: What `carry` returned.
    """
    sites = {id(site.variable): site for site in targets.variable_sites(small)}
    for entry in entries_of(model):
        _, new, take = carried[id(entry.variable)]
        value, state = entry.read()
        projection = copy.deepcopy(entry.projection)
        fresh = projection.init(take(value))
        cut = {
            name: take(array) if array.shape == value.shape else array
            for name, array in state.items()
        }
        if projection.kind == "mask" and cut["mask"].all():
            continue
        if entry.home.given:
            warnings.warn(
                f"What keeps {entry.target.path} compressed belongs to an optimizer of the model's "
                "own, so it is not carried over; use the callback on the new model, too.",
                stacklevel=3,
            )
            continue
        site = sites[id(new)]
        target = entry.target._replace(path=site.path, variable=new, layer=site.layer)
        made = attach(small, target, projection)
        made.fresh = entry.fresh
        made.complete = entry.complete
        if all(cut[name].shape == fresh[name].shape for name in cut):
            made.write_state(cut)
        else:
            made.adopt()


def carry_optimizer(model, small, carried):
    """Gives the optimizer of the small model what that of the large one has gathered.

    Args:
        model: The large model.
        small: The small one, compiled as the other is.
        carried: What `carry` returned.

    Raises:
        ValueError: If the optimizer keeps something that is not like a variable.
    """
    if not small.optimizer.built:
        small.optimizer.build(small.trainable_variables)
    counterparts = {key: (new, take) for key, (_, new, take) in carried.items()}
    for old, new in zip(leaves(model.optimizer), leaves(small.optimizer)):
        if old.built:
            _carry_slots(old, new, counterparts)


def _carry_slots(old, new, counterparts):
    olds, news = (keras_private.trainable_variables(each) for each in (old, new))
    places = {id(variable): place for place, variable in enumerate(news)}
    order = [places[id(counterparts[id(variable)][0])] for variable in olds]
    done = set()
    for name, slots in vars(old).items():
        if not isinstance(slots, (list, tuple)) or len(slots) != len(olds) or slots is olds:
            continue
        others = getattr(new, name)
        for variable, slot, place in zip(olds, slots, order):
            if not isinstance(slot, keras.Variable) or slot is variable:
                continue
            done.add(id(slot))
            if tuple(slot.shape) != tuple(variable.shape):
                raise ValueError(
                    f"{type(old).__name__} keeps {slot.path!r}, which has not the shape of "
                    f"{variable.path!r}, so it cannot follow the cut. Leave out `keep_optimizer`."
                )
            _, take = counterparts[id(variable)]
            others[place].assign(take(as_numpy(slot)))
    # Counters, a scale of the loss.
    single = [
        [v for v in each.variables if v.shape == () or not np.prod(v.shape)] for each in (old, new)
    ]
    for one, other in zip(*single):
        if id(one) not in done:
            other.assign(as_numpy(one))
