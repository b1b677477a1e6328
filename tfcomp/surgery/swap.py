"""Replaces layers of a model by others."""

import functools

import keras

from tfcomp import keras_private, targets
from tfcomp.surgery import again, check, places, state
from tfcomp.surgery.blind import warn_blind
from tfcomp.surgery.carry import carry_weights, convert
from tfcomp.surgery.recompile import compile_like, forget_compiled
from tfcomp.validation import check_verbose, invalid


def swap_layers(model, rules, verbose=0, verify=True):
    """Returns a model like `model`, with layers replaced as the rules say.

    Layer names, connections, shared and tied layers, nested models and the model's own name stay as
    they are. A layer that is kept keeps all it has: weights, vocabularies, statistics, seeds. Of a
    new layer those weights are carried over that agree with the old one's in name and shape.

    A Sequential or functional model is not changed; the new model is made of copies. A subclassed
    model is connected by its own code, which cannot be copied, so it is **changed in place** and
    returned: layers are replaced wherever they are held, as attributes or in lists, tuples and
    dicts. In the same way layers are replaced that another layer's code made, such as the
    projections of `MultiHeadAttention`, in that layer's copy. What was replaced there is remembered
    when the model is saved, by Keras or by `tfcomp.save`, and replaced again when it is loaded.

    If the model is compiled, the new one is compiled the same way, with a fresh optimizer.

    A new layer that takes the signs of what comes out of a ReLU, a sigmoid or the like, through
    pooling, reshaping or sums if need be, learns nothing of it, since all signs are +1. A warning
    names such layers.

    Args:
        model: A `keras.Model` of any kind.
        rules: Dict from rule to replacement. A rule is a layer type (and its subclasses), a layer
            name or path, a compiled regular expression on paths, a layer, a callable
            `layer -> bool`, or `...` for all others; the most precise one wins, as in
            `tfcomp.targets.find`. A replacement is
            a layer class: the new layer gets whatever was set on the old one, and the new class's
                own defaults where the old layer has its class's defaults;
            a `functools.partial` of a class: the same, with some arguments given;
            any other callable: called with the old layer, it returns the new one, or `None` to
                keep it;
            `None`: the layer is kept.
        verbose: 0 for silence, 1 or 2 to print what became of every layer.
        verify: Whether to run the model once, on a small random batch, and compare every layer that
            is kept with its copy. Give a batch of inputs instead where random ones will not do.
            Models whose inputs' shapes are not known are not run.

    Returns:
        The new model, or the given one if it is subclassed.

    Raises:
        ValueError: If a rule matches nothing, a layer cannot be turned into the new class, cannot
            be copied, or cannot be reached where it is held; or if a layer that is kept does not
            compute the same. The message names the layer. The given model is then as it was.

    Example:

    >>> import keras, tfcomp
    >>> model = keras.Sequential(
    ...     [
    ...         keras.Input((8, 8, 1)),
    ...         keras.layers.Conv2D(4, 3, padding="same", name="conv"),
    ...         keras.layers.Flatten(),
    ...         keras.layers.Dense(10, name="logits"),
    ...     ]
    ... )
    >>> binary = tfcomp.swap_layers(
    ...     model, {keras.layers.Conv2D: tfcomp.layers.BinaryConv2D, "logits": None}
    ... )
    >>> [type(layer).__name__ for layer in binary.layers]
    ['BinaryConv2D', 'Flatten', 'Dense']
    """
    verbose = check_verbose(verbose)
    swap = _Swap(model, rules)
    swapped = swap.copied(verify) if keras_private.is_functional(model) else swap.in_place(verify)
    warn_blind(swapped, among=swap.new.values())
    if verbose:
        _print(swapped.name, swap.report)
    return swapped


def swapped_copy(model, rules):
    """`swap_layers` for calls that must not change the model they are given.

    Raises:
        ValueError: If the model is subclassed, or as `swap_layers` does.
    """
    if isinstance(model, keras.Model) and not keras_private.is_functional(model):
        raise ValueError(
            "Invalid value for argument `model`. Expected a Sequential or functional keras.Model. "
            f"Received: {model!r}, whose layers are made and connected by its own code, so that it "
            "cannot be copied. `tfcomp.swap_layers` replaces layers in place; callbacks compress "
            "the weights of any model."
        )
    return _Swap(model, rules).copied(True)


def _replacement(layer, value):
    """The layer that takes another's place by a rule's value, or `None`."""
    if value is None:
        return None
    cls = value.func if isinstance(value, functools.partial) else value
    if isinstance(cls, type) and issubclass(cls, keras.layers.Layer):
        preset = value.keywords if isinstance(value, functools.partial) else {}
        if getattr(value, "args", ()):
            raise invalid("rules", value, "keyword arguments alone in a functools.partial")
        if again.class_of(layer) is cls and not preset:
            return None
        _check_float(layer)
        with state.knowing(layer):
            return convert(layer, cls, preset)
    if not callable(value) or isinstance(cls, type):
        raise invalid("rules", value, "a layer class, a callable or None as each value")
    new = value(layer)
    if new is None or new is layer:
        return None
    if not isinstance(new, keras.layers.Layer):
        raise invalid("rules", value, f"a callable that returns a layer, not {new!r}")
    _check_float(layer)
    new.name = layer.name
    return new


def _check_float(layer):
    for part in places.holders(layer):
        mode = getattr(part, "quantization_mode", None)
        if mode is not None:
            raise ValueError(
                f"Layer {layer.name!r} cannot be replaced: {part.name!r} was quantized to {mode} "
                "by Keras, and its weights are no longer numbers that another layer could take. "
                "Swap layers before `quantize`, or keep this one with the rule "
                f"{{{layer.name!r}: None}}."
            )


def _out_of_reach(layer, holder):
    return ValueError(
        f"Layer {layer.name!r} cannot be replaced in {holder.name!r}, a {type(holder).__name__}, "
        "which does not hold it as an attribute, or in a list, tuple or dict. Keep it with the "
        f"rule {{{layer.name!r}: None}}, or replace {holder.name!r} as a whole."
    )


def _check_shapes(old, new):
    """Raises where a layer that the code of another calls would return another shape."""
    shape = (old.get_build_config() or {}).get("input_shape")
    if shape is None:
        return
    try:
        shapes = [layer.compute_output_shape(shape) for layer in (old, new)]
    except Exception:
        # Of some layers the shape is not known before they are called.
        return
    if shapes[0] != shapes[1]:
        raise ValueError(
            f"Layer {old.name!r} returns the shape {shapes[0]}, its replacement {shapes[1]}; the "
            "code that calls it expects the former."
        )


def _copy_input(layer):
    return type(layer).from_config(layer.get_config())


def _counterparts(old, new, replaced):
    """Pairs of the id of a layer inside `old` and the layer in its place inside the copy."""
    for child, made in state.matched(old, new):
        yield id(child), made
        if id(child) not in replaced:
            yield from _counterparts(child, made, replaced)


class _Swap:
    """The replacements of one model, each made once."""

    def __init__(self, model, rules):
        if not isinstance(model, keras.Model):
            raise invalid("model", model, "a keras.Model")
        if not isinstance(rules, dict):
            raise invalid("rules", rules, "a dict from rule to layer class, callable or None")
        self.model = model
        # Rows of old layer, new layer, weights carried, weights of the new one, of the old one.
        self.report = []
        self.new, self.olds = {}, []
        sites = [
            site
            for site in targets.layer_sites(model)
            if not isinstance(site.layer, keras.layers.InputLayer)
            and not targets.is_part(site.layer)
        ]
        chosen = targets.best_rules(rules, sites, "rules")
        for index, site in enumerate(sites):
            # Outer sites come first; what is inside a layer that goes, goes with it.
            if any(id(layer) in self.new for layer in site.chain[:-1]):
                continue
            new = _replacement(site.layer, chosen.get(index))
            if new is not None:
                self.new[id(site.layer)] = new
                self.olds.append(site.layer)
        self.clones, self.pairs, self.gone = {}, [], []

    def _replaced_in(self, layer):
        """The layers inside a layer that are replaced, however deep."""
        return [s.layer for s in targets.layer_sites(layer) if id(s.layer) in self.new]

    # ---- Sequential and functional models, which are copied

    def copied(self, verify):
        model = self.model
        swapped = self.clone(model)
        if model.built and not swapped.built:
            swapped.build(model.input_shape)
        for old, new in self.pairs:
            self._finish(old, new)
        for old, new in self.pairs:
            if isinstance(old, keras.Model):
                compile_like(old, new)
        batch = check.check_kept(model, self._kept(), _batches(model, verify))
        if batch is not None and self.gone:
            check.check_gone(swapped, self.gone, batch)
        return swapped

    def _kept(self):
        return [
            (old, new)
            for old, new in self.pairs
            if id(old) not in self.new
            and old.built
            and not keras_private.is_remade_from_layers(old)
            and not self._replaced_in(old)
        ]

    def clone(self, layer):
        """The layer's place in the new model."""
        if id(layer) not in self.clones:
            self.clones[id(layer)] = new = self._made(layer)
            if isinstance(layer, keras.layers.Layer):
                self.pairs.append((layer, new))
        return self.clones[id(layer)]

    def _made(self, layer):
        if not isinstance(layer, keras.layers.Layer):
            return keras_private.without_nodes(layer)
        if id(layer) not in self.new and keras_private.is_remade_from_layers(layer):
            return self._reconnected(layer)
        new = self.new.get(id(layer))
        if new is None:
            new = state.remade(layer)
        self._settle(layer, new)
        return new

    def _reconnected(self, model):
        """A Sequential or functional model of the clones of its layers."""
        if isinstance(model, keras.Sequential):
            layers = [
                _copy_input(layer)
                if isinstance(layer, keras.layers.InputLayer)
                else self.clone(layer)
                for layer in keras_private.sublayers(model)
            ]
            new = type(model)(layers, name=model.name)
        else:
            inputs = keras.tree.map_structure(
                lambda tensor: _copy_input(keras_private.producer(tensor)).output, model.input
            )
            new = keras_private.connected_like(model, inputs, self.clone)
        if not type(model).__module__.startswith("keras."):
            self._copy_attributes(model, new)
        return new

    def _copy_attributes(self, old, new):
        """What a user's class has beside its layers."""
        for name, value in list(vars(old).items()):
            if name not in vars(new) and name not in keras_private.BOOKKEEPING and name[0] != "_":
                setattr(new, name, self._translated(value))

    def _translated(self, value):
        if isinstance(value, keras.layers.Layer):
            return self.clone(value)
        if isinstance(value, list):
            return [self._translated(item) for item in value]
        if isinstance(value, dict):
            return {key: self._translated(item) for key, item in value.items()}
        return value

    def _settle(self, old, new):
        """Before a copy is called: what it needs then, and the layers it shares with others."""
        for place, child in places.held(old):
            made = places.at(new, place)
            if not isinstance(made, keras.layers.Layer):
                # Made when it is built.
                continue
            known = self.new.get(id(child), self.clones.get(id(child)))
            if known is not None and known is not made:
                again.build_like(known, made)
                places.put(new, made, known)
                self.clones[id(child)] = known
            elif known is None and type(made) is type(child):
                self.clones[id(child)] = made
                self._settle(child, made)
        if id(old) not in self.new:
            state.copy_settings(old, new)

    def _finish(self, old, new):
        """Once all layers are built: the weights of a layer, and the layers inside it."""
        if id(old) in self.new:
            again.build_like(new, old)
            self._carry(old, new)
            return
        inside = []
        if not keras_private.is_remade_from_layers(old):
            inside = self._replaced_in(old)
            counterparts = dict(_counterparts(old, new, self.new)) if inside else {}
            self._copy_inside(old, new)
        state.copy_state(old, new)
        if not isinstance(old, keras.Model) and not inside:
            count = len(old.variables)
            self.report.append((old, new, count, count, count))
        for child in inside:
            self._replace_inside(new, child, counterparts[id(child)])
        if inside:
            again.remember(new, [self.new[id(child)] for child in inside])

    def _copy_inside(self, old, new):
        for child, made in state.matched(old, new):
            if id(child) not in self.new:
                self._copy_inside(child, made)
                state.copy_state(child, made)

    def _replace_inside(self, holder, old, made):
        new = self.new[id(old)]
        if made is not new:
            _check_shapes(old, new)
            again.build_like(new, old)
            if not places.put_everywhere(holder, made, new):
                raise _out_of_reach(old, holder)
            self.gone.append(made)
        self._carry(old, new)

    def _carry(self, old, new):
        self.report.append((old, new, *carry_weights(old, new)))

    # ---- models with code of their own, which are changed

    def in_place(self, verify):
        model, put = self.model, []
        if not self.olds:
            return model
        batch = check.first_taken(model, _batches(model, verify))
        try:
            for old in self.olds:
                new = self.new[id(old)]
                _check_shapes(old, new)
                again.build_like(new, old)
                self._carry(old, new)
                put.append((old, new))
                if not places.put_everywhere(model, old, new):
                    raise _out_of_reach(old, model)
            if batch is not None:
                check.check_gone(model, self.olds, batch)
            compile_like(model, model)
            forget_compiled(model)
        except Exception:
            for old, new in reversed(put):
                places.put_everywhere(model, new, old)
            raise
        again.remember(model, [new for _, new in put])
        return model


def _batches(model, verify):
    """Lists of the model's arguments to try it on."""
    if verify is False:
        return []
    return check.random_inputs(model) if verify is True else [[verify]]


def _print(name, report):
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"Layers of {name}")
    for heading in ("layer", "was", "is", "weights carried over"):
        table.add_column(heading)
    for old, new, copied, count, before in report:
        kept = type(old) is type(new)
        carried = "" if not count and not before else f"{copied} of {count}"
        table.add_row(old.name, type(old).__name__, "" if kept else type(new).__name__, carried)
    Console().print(table)
