"""A smaller model out of the configurations of a larger one's layers.

Functional and Sequential models are connected anew. The code of subclassed models and of layers
that hold layers is run on symbolic tensors, and what it connects becomes a functional model of the
same name, which is saved and loaded without the class.
"""

import keras
import numpy as np

from tfcomp import keras_private, targets
from tfcomp.surgery import again, places, state
from tfcomp.surgery.channels import configs
from tfcomp.surgery.channels.adapt import adapted
from tfcomp.surgery.channels.answering import answering
from tfcomp.surgery.channels.tensors import along, dyes_of, flat, is_symbolic
from tfcomp.surgery.channels.trace import arguments_of, inputs_of


class Inexpressible(Exception):
    """Sizes that the configuration or the code of a layer cannot have.

    Args:
        name: Name of the layer or operation.
        why: The reason.
        suspects: Arrays of dyes that it may be because of, likely ones first.
    """

    def __init__(self, name, why, suspects):
        super().__init__(name, why)
        self.name, self.why, self.suspects = name, why, suspects


class Builder:
    """Makes the small model.

    Args:
        model: The large model.
        dyes: Its `Dyes`.
        removed: Boolean array, whether a dye goes.

    Attributes:
        pairs: List of pairs of a layer and its counterpart.
        positional: Whether it matters which channels go, and not only how many.
    """

    def __init__(self, model, dyes, removed):
        self.model, self.sizes = model, configs.Sizes(dyes, removed)
        self.pairs, self.positional = [], False
        self._clones, self._unfolded, self._guesses = {}, set(), {}

    def build(self):
        """Returns the small model, with weights that are not set yet."""
        model = self.model
        if keras_private.is_functional(model):
            return self._whole(model, inputs_of(model))
        specs = arguments_of(model)
        tensors = keras.tree.map_structure(
            lambda spec: keras.KerasTensor((None, *spec.shape[1:]), spec.dtype), specs
        )
        return self._unfold(model, tuple(tensors), {})

    def is_unfolded(self, layer):
        """Whether a functional model has the place of a layer that was none."""
        return id(layer) in self._unfolded

    def place(self, operation, *args, **kwargs):
        """Calls the counterpart of a layer or operation, which is made for the shapes it meets."""
        if not isinstance(operation, keras.layers.Layer):
            return self._place_operation(operation, args, kwargs)
        try:
            if id(operation) not in self._clones:
                new = self._made(operation, args, kwargs)
                self._clones[id(operation)] = new
                self.pairs.append((operation, new))
            new = self._clones[id(operation)]
            if id(operation) in self._unfolded:
                tensors = [x for x in flat((args, kwargs)) if is_symbolic(x)]
                output = new(tensors if len(tensors) > 1 else tensors[0])
            else:
                output = new(*args, **kwargs)
        except Inexpressible:
            raise
        except Exception as error:
            raise self._inexpressible(operation, error) from error
        self._verify(operation, new)
        return output

    def _place_operation(self, operation, args, kwargs):
        try:
            new, args = adapted(self.sizes, operation, args)
            self.positional |= type(operation).__name__ in ("GetItem", "Split")
            output = new(*args, **kwargs)
        except Exception as error:
            raise self._inexpressible(operation, error) from error
        self._verify_output(operation, output)
        return output

    def _dyes_around(self, operation):
        """All dyes that a layer or operation has to do with."""
        found = [np.zeros(0, np.int32)]
        args, kwargs, output = self.sizes.dyes.seen.get(id(operation), ((), {}, None))
        for x in flat((args, kwargs, output)):
            found += [array.ravel() for array in dyes_of(x)] if is_symbolic(x) else []
        for variable in getattr(operation, "variables", ()):
            for axis in range(len(variable.shape)):
                labels = self.sizes.dyes.found(variable, axis)
                found += [] if labels is None else [labels.ravel()]
        return self._free(found)

    def _free(self, found):
        dyes = np.unique(self.sizes.dyes.free(self.sizes.dyes.roots(np.concatenate(found))))
        return dyes[dyes > 0]

    def _inexpressible(self, operation, why, suspects=()):
        if isinstance(why, Exception):
            why = f"{type(why).__name__}: {str(why).strip().splitlines()[0][:120]}"
        found = [self._free([array.ravel() for array in arrays]) for arrays in suspects if arrays]
        return Inexpressible(operation.name, why, [*found, self._dyes_around(operation)])

    def _verify(self, layer, new):
        """Whether the variables of a layer have become as small as they were to be."""
        if id(layer) in self._unfolded or keras_private.is_functional(layer):
            return
        wrong, guessed, shown = [], [], ""
        for variable, made in zip(layer.variables, new.variables):
            wanted, shape = self.sizes.shape(variable), tuple(made.shape)
            for axis in range(len(wanted)) if wanted != shape else ():
                labels = self.sizes.dyes.found(variable, axis)
                shown = shown or f"{variable.name} {wanted} and not {shape}"
                if labels is not None and shape[axis : axis + 1] != wanted[axis : axis + 1]:
                    wrong.append(labels)
                elif labels is not None and variable.shape[axis] in self._guesses.get(
                    id(layer), ()
                ):
                    guessed.append(labels)
        if shown or len(layer.variables) != len(new.variables):
            why = f"its configuration cannot say {shown}"
            raise self._inexpressible(layer, why, [wrong, guessed])

    def _verify_output(self, operation, output):
        seen = self.sizes.dyes.seen.get(id(operation))
        for old, new in zip(flat(seen[2]) if seen else (), flat(output)):
            for axis in range(len(old.shape)) if is_symbolic(old) else ():
                labels = along(old, axis)
                if labels is not None and new.shape[axis] != int(self.sizes.kept(labels).sum()):
                    raise self._inexpressible(operation, "its arguments are numbers of channels")

    # ---- layers

    def _made(self, layer, args=(), kwargs=None):
        if keras_private.is_functional(layer):
            return self._whole(layer, args[0])
        changed = self.sizes.change(layer)
        if configs.is_wrapper(layer) and changed:
            steps = args
            if isinstance(layer, keras.layers.TimeDistributed):
                x = args[0]
                steps = (keras.KerasTensor((x.shape[0], *x.shape[2:]), x.dtype),)
            config = configs.wrapper_config(layer, lambda inner: self._made(inner, steps))
            return _from_config(layer, config)
        config = configs.changed_config(self.sizes, layer)
        if config is not None and (changed or config):
            return _from_config(layer, config)
        if not changed:
            new = state.remade(layer)
            state.copy_settings(layer, new)
            return new
        if keras_private.sublayers(layer):
            try:
                return self._unfold(layer, args, kwargs or {})
            except Inexpressible:
                # What it holds may be made from its own configuration all the same.
                self._unfolded.discard(id(layer))
        return self._guessed(layer)

    def _guessed(self, layer):
        """A layer without a rule: numbers in its configuration that are sizes of its variables."""
        sizes = {}
        for variable in layer.variables:
            pairs = zip(variable.shape, self.sizes.shape(variable))
            sizes.update((old, new) for old, new in pairs if old != new)
        config = layer.get_config()
        known = {k: sizes[v] for k, v in config.items() if type(v) is int and v in sizes}
        self._guesses[id(layer)] = {config[name] for name in known}
        return _from_config(layer, known)

    # ---- code

    def _unfold(self, layer, args, kwargs):
        """The layers inside a layer, as a functional model of the same name."""
        kwargs = {name: value for name, value in kwargs.items() if name != "training"}
        if targets.own_variables(layer):
            raise self._inexpressible(layer, "its code computes with weights of its own")
        self._check_training(layer, args, kwargs)
        tensors = [x for x in flat((args, kwargs)) if is_symbolic(x)]
        inputs = [keras.Input(batch_shape=x.shape, dtype=x.dtype) for x in tensors]
        values = dict(zip(map(id, tensors), inputs))
        given = keras.tree.map_structure(lambda x: values.get(id(x), x), (tuple(args), kwargs))
        known = {id(part) for part in places.holders(layer)}

        own, read = {id(variable) for variable in layer.variables}, []

        def note(variable):
            if id(variable) in own:
                read.append(variable)

        def call(part, args, kwargs):
            with answering(), keras_private.noticing_reads(None):
                if id(part) not in known:
                    return part(*args, **kwargs)
                return self.place(part, *args, **kwargs)

        try:
            with answering(call), keras_private.noticing_reads(note):
                outputs = layer.call(*given[0], **given[1])
            new = keras.Model(inputs if len(inputs) > 1 else inputs[0], outputs, name=layer.name)
        except Inexpressible:
            raise
        except Exception as error:
            raise self._inexpressible(layer, error) from error
        if read:
            # In what was connected they are constants.
            raise self._inexpressible(layer, f"its code computes with {read[0].path}")
        self._unfolded.add(id(layer))
        self._clones[id(layer)] = new
        return new

    def _check_training(self, layer, args, kwargs):
        """A functional model does the same while it trains; code may do something else."""
        if not keras_private.takes_training(layer):
            return
        done = [_calls_made(layer, args, {**kwargs, "training": flag}) for flag in (True, False)]
        if done[0] != done[1]:
            raise self._inexpressible(layer, "its code does something else while it trains")

    # ---- functional models

    def _whole(self, model, arrived):
        if isinstance(model, keras.Sequential):
            return self._sequential(model, flat(arrived)[0])

        def like(old, new):
            shape = [None if size is None else other for size, other in zip(old.shape, new.shape)]
            name = keras_private.producer(old).name
            return keras.Input(batch_shape=shape, dtype=old.dtype, name=name)

        arrived = keras.tree.pack_sequence_as(model.input, keras.tree.flatten(arrived))
        inputs = keras.tree.map_structure(like, model.input, arrived)
        outputs = keras_private.run_graph(model, inputs, self.place)
        return keras.Model(inputs, outputs, name=model.name)

    def _sequential(self, model, arrived):
        old = keras_private.producer(inputs_of(model))
        x = keras.Input(batch_shape=arrived.shape, dtype=arrived.dtype, name=old.name)
        new = [keras_private.producer(x)]
        for layer in model.layers:
            known = self._clones.get(id(layer))
            with keras_private.forgetting_calls([] if known is None else [known]):
                x = self.place(layer, x)
            new.append(self._clones[id(layer)])
            if known is None:
                # Sequential models call their layers themselves.
                keras_private.forget_calls(new[-1])
        return keras.Sequential(new, name=model.name)


def _from_config(layer, changes):
    cls = again.class_of(layer)
    with state.knowing(layer):
        try:
            new = cls.from_config({**layer.get_config(), **changes})
        except Exception:
            # Some read no lambdas, or what they were given is in their configuration as it is.
            new = cls(**{**state.own_config(layer), **changes})
    new.name = layer.name
    state.copy_settings(layer, new)
    return new


def _calls_made(layer, args, kwargs):
    """List of what the code of a layer calls."""
    made = []

    def call(part, args, kwargs):
        name = id(part) if isinstance(part, keras.layers.Layer) else type(part).__name__
        told = {key: value for key, value in kwargs.items() if key != "training"}
        made.append((name, *(str(x) for x in flat((args, told)) if not is_symbolic(x))))
        with answering():
            return part.compute_output_spec(*args, **kwargs)

    try:
        with answering(call, call):
            layer.call(*args, **kwargs)
    except Exception as error:
        made.append(type(error).__name__)
    return made
