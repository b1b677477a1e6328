"""One pass of a model's own code over symbolic tensors that carry dyes."""

import contextlib

import keras
import numpy as np
from keras import layers as keras_layers

from tfcomp import keras_private, targets
from tfcomp.model.choice import why_not_plain
from tfcomp.surgery import places
from tfcomp.surgery.channels import layers, operations
from tfcomp.surgery.channels.answering import answering
from tfcomp.surgery.channels.ask import ask
from tfcomp.surgery.channels.dyes import DyedVariable, Dyes
from tfcomp.surgery.channels.tensors import dye, dyes_of, flat, give_up, is_symbolic

_BATCH = 2
# An axis of unknown size is tried with these.
FREE_SIZES = (32, 16, 8, 96, 224)


class _Tracer:
    """Answers the calls of layers and operations while a model's code runs."""

    def __init__(self, variables=()):
        self.dyes, self._read = Dyes(variables), {}

    # ---- values that code takes

    def noticing(self):
        """Context in which variables are noted whose values code takes, where no dye follows."""
        return keras_private.noticing_reads(
            lambda variable: self._read.setdefault(id(variable), (variable, self.dyes.where))
        )

    def freeze_read(self):
        """Makes the channels stay of variables that were noted."""
        for variable, where in self._read.values():
            found = [self.dyes.found(variable, axis) for axis in range(len(variable.shape))]
            if any(labels is not None for labels in found):
                what = f"{variable.path}, whose value the code of {where or 'the model'} takes,"
                self.dyes.opaque.append(what)
                for labels in found:
                    if labels is not None:
                        self.dyes.freeze(labels, f"{what} is not understood")

    # ---- layers

    def layer(self, layer, args, kwargs):
        """Answers a call of a layer: by its rule, or by running its code."""
        before, self.dyes.where = self.dyes.where, layer.name
        try:
            output = self._answered(layer, args, kwargs)
        finally:
            self.dyes.where = before
        self.dyes.seen[id(layer)] = (args, kwargs, output)
        return output

    def _answered(self, layer, args, kwargs):
        if isinstance(layer, layers.PASSING):
            return args[0]
        rule = layers.rule_for(layer)
        reason = why_not_plain(layer)
        if reason:
            return self._left(layer, args, kwargs, reason)
        if rule is not None:
            return self._ruled(rule, layer, args, kwargs)
        if isinstance(layer, keras_layers.TimeDistributed) and keras_private.home(layer):
            return self._distributed(layer, *args, **kwargs)
        if isinstance(layer, keras_layers.SpectralNormalization) and keras_private.home(layer):
            return self._normalized(layer, *args, **kwargs)
        if not layer.variables and not _touches(args, kwargs):
            return self._spec(layer, args, kwargs)
        return self._entered(layer, args, kwargs)

    def _ruled(self, rule, layer, args, kwargs):
        kwargs = dict(kwargs)
        x = args[0] if args else kwargs.pop("sequences", kwargs.pop("inputs", None))
        if kwargs.get("reverse"):
            with _apart():
                output = layer.compute_output_spec(x, reverse=True)
            layers.reverse_embedding(self.dyes, layer, x, output)
            return output
        if isinstance(layer, keras_layers.EinsumDense):
            output = keras.KerasTensor(layers.einsum_dense_shape(layer, x), layer.compute_dtype)
        else:
            with _apart():
                output = layer.compute_output_spec(x)
        if isinstance(layer, (*layers.RECURRENT, *layers.CONV_LSTM)):
            state = kwargs.get("initial_state", args[1] if len(args) > 1 else None)
            rule(self.dyes, layer, x, output, state)
            return output
        rule(self.dyes, layer, x, output)
        self._mixes_if_quantized(layer, x, output)
        activation = getattr(layer, "activation", None)
        return output if activation is None else self._activated(activation, output)

    def _activated(self, activation, x):
        layer = keras_layers.Activation(activation)
        return self._entered(layer, (x,), {})

    def _mixes_if_quantized(self, layer, x, output):
        """A quantizer's scales may be means over channels."""
        if targets.weight_quantizers(layer) or getattr(layer, "input_quantizer", None):
            for tensor in (x, output):
                for array in dyes_of(tensor):
                    self.dyes.inexact.update(np.unique(array).tolist())

    def _distributed(self, layer, inputs, training=None, mask=None):
        """Its layer is called on each step alike."""
        step = keras.KerasTensor((inputs.shape[0], *inputs.shape[2:]), inputs.dtype)
        for array in dyes_of(inputs):
            if array.shape[1] > 1:
                self.dyes.freeze(array, f"{layer.name} goes along it")
        dye(step, [a[:, 0] for a in dyes_of(inputs) if a.shape[1] == 1])
        made = self.layer(layer.layer, (step,), {})
        output = keras.KerasTensor((made.shape[0], inputs.shape[1], *made.shape[1:]), made.dtype)
        return dye(output, [a[:, None] for a in dyes_of(made)])

    def _normalized(self, layer, inputs, training=None):
        """Its layer is called; beside that it has a vector as long as the kernel's last axis."""
        output = self.layer(layer.layer, (inputs,), {})
        self.dyes.reads(layer.vector_u, 1, self.dyes.found(layer.kernel, -1))
        return output

    def _entered(self, layer, args, kwargs):
        """Runs the code of a layer; its own variables are symbolic tensors, too, meanwhile."""
        try:
            with places.standing_in(layer, keras.Variable, DyedVariable):
                return layer.call(*args, **kwargs)
        except Exception as error:
            return self._asked(layer, args, kwargs, error)

    def _asked(self, layer, args, kwargs, error):
        """What refuses symbolic tensors is tried with numbers."""
        output = self._spec(layer, args, kwargs)
        what = f"{type(layer).__name__} {layer.name}"
        if not layer.variables and self._ask(layer, args, kwargs, output):
            self.dyes.asked.append(what)
            return output
        return self._left(layer, args, kwargs, f"{type(error).__name__}: {str(error)[:80]}", output)

    def _left(self, layer, args, kwargs, reason, output=None):
        output = self._spec(layer, args, kwargs) if output is None else output
        what = f"{type(layer).__name__} {layer.name} ({reason})"
        give_up(self.dyes, what, _symbolic(args, kwargs), flat(output))
        own = any(map(targets.is_kernel, layer.trainable_variables))
        if own and what not in self.dyes.opaque:
            # Its own channels, if it has any, are not seen.
            self.dyes.opaque.append(what)
        for variable in layer.variables:
            for axis in range(len(variable.shape)):
                labels = self.dyes.found(variable, axis)
                if labels is not None:
                    self.dyes.freeze(labels, f"{what} is not understood")
        return output

    def _spec(self, layer, args, kwargs):
        with _apart():
            return layer.compute_output_spec(*args, **kwargs)

    def _ask(self, thing, args, kwargs, output):
        def function(values):
            def value(x):
                return values.get(id(x), x)

            given = keras.tree.map_structure(value, (tuple(args), dict(kwargs)))
            return thing.call(*given[0], **given[1])

        with _apart():
            try:
                return ask(self.dyes, function, flat((args, kwargs)), flat(output))
            except Exception:
                # It may do anything with numbers.
                return False

    # ---- operations

    def operation(self, op, args, kwargs):
        """Answers a symbolic call of an operation."""
        args, kwargs = keras.tree.map_structure(self._shown, (tuple(args), dict(kwargs)))
        with keras_private.noticing_reads(None):
            output = op.compute_output_spec(*args, **kwargs)
        self.dyes.seen[id(op)] = (args, kwargs, output)
        if not _touches(args, kwargs):
            return output
        before = self.dyes.where
        self.dyes.where = f"{type(op).__name__} in {before}" if before else op.name
        rule = operations.rule_for(op, args, kwargs)
        if rule is not None:
            rule(self.dyes, op, args, kwargs, flat(output))
        elif self._ask(op, args, kwargs, output):
            self.dyes.asked.append(self.dyes.where)
        else:
            give_up(self.dyes, self.dyes.where, _symbolic(args, kwargs), flat(output))
        self.dyes.where = before
        return output

    def _shown(self, x):
        """Variables that code computes with, as tensors that are dyed along each axis."""
        if isinstance(x, DyedVariable):
            x = x.variable
        return self.dyes.show(x) if isinstance(x, keras.Variable) else x


@contextlib.contextmanager
def _apart():
    """Context for Keras's own way of a call."""
    with answering(), keras_private.noticing_reads(None):
        yield


def _symbolic(args, kwargs):
    return [x for x in flat((args, kwargs)) if is_symbolic(x)]


def _touches(args, kwargs):
    return any(map(dyes_of, _symbolic(args, kwargs)))


def symbols(specs, free):
    """Symbolic tensors of known shapes.

    Args:
        specs: Structure of things with a shape, of which the first axis is the batch, and a dtype.
        free: Size of axes of unknown size.
    """

    def symbol(spec):
        shape = [free if size is None else size for size in spec.shape]
        if spec.shape:
            shape[0] = spec.shape[0] or _BATCH
        return keras.KerasTensor(tuple(shape), dtype=spec.dtype or keras.config.floatx())

    return keras.tree.map_structure(symbol, specs)


def inputs_of(model):
    """Structure of the inputs of a functional or Sequential model."""
    return model.inputs[0] if isinstance(model, keras.Sequential) else model.input


def arguments_of(model):
    """List of structures of specs: what a model is called with."""
    if keras_private.is_functional(model):
        return [inputs_of(model)]
    return keras_private.input_signature(model)


def trace(model, free=None, variables=()):
    """Traces the channels of a model.

    Args:
        model: A built `keras.Model`.
        free: Size of the axes of unknown size; `None` tries some.
        variables: Variables that are numbered first.

    Returns:
        The `Dyes`, with the size in `free`.

    Raises:
        ValueError: If the model's code cannot be run on symbolic tensors.
    """
    specs = arguments_of(model)
    is_fixed = all(None not in spec.shape[1:] for spec in keras.tree.flatten(specs))
    sizes = FREE_SIZES[:1] if is_fixed else FREE_SIZES
    best, errors = None, []
    for size in sizes if free is None else (free,):
        try:
            dyes = _traced(model, specs, size, variables)
        except Exception as error:
            errors.append(error)
            continue
        # What cannot be so long, or must be longer, is not understood.
        best = dyes if best is None or len(dyes.opaque) < len(best.opaque) else best
        if not best.opaque:
            break
    if best is None:
        raise ValueError(
            f"The code of model {model.name!r}, a {type(model).__name__}, cannot be run on "
            "symbolic tensors, so its channels cannot be traced "
            f"({type(errors[0]).__name__}: {errors[0]})."
        ) from errors[0]
    return best


def _traced(model, specs, free, variables):
    tracer = _Tracer(variables)
    with answering(tracer.layer, tracer.operation), tracer.noticing():
        outputs = model.call(*symbols(specs, free))
    tracer.freeze_read()
    for output in flat(outputs):
        for array in dyes_of(output) if is_symbolic(output) else ():
            tracer.dyes.freeze(array, "it leaves the model")
    tracer.dyes.free_size = free
    return tracer.dyes.finish()
