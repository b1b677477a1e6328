"""Which variables or layers of a model a rule covers.

Every part of tfcomp that takes a choice of layers or weights reads it here, so the same words work
everywhere: `None`, a layer name or path, a compiled regular expression on paths, a layer type, a
callable, a list of these, or a dict of overrides. A string is a name or a path and nothing else:
`"dense"` does not cover `dense_1`, and `re.compile("dense")` does.
"""

import difflib
import re
from typing import Any, NamedTuple

import keras

from tfcomp.keras_private import sublayers
from tfcomp.validation import invalid

# Keras's convolutions, of whatever kind.
CONVOLUTIONS = (
    keras.layers.Conv1D,
    keras.layers.Conv2D,
    keras.layers.Conv3D,
    keras.layers.Conv1DTranspose,
    keras.layers.Conv2DTranspose,
    keras.layers.Conv3DTranspose,
    keras.layers.DepthwiseConv1D,
    keras.layers.DepthwiseConv2D,
    keras.layers.SeparableConv1D,
    keras.layers.SeparableConv2D,
)

# Weights of these names have two axes or more in some layers without being kernels.
_NOT_KERNELS = re.compile(r"(^|_)(bias|gamma|beta|alpha|mean|variance|scale)$|^lora_")

# How precisely a rule names its match; the most precise rule of a dict wins.
_EXACT, _PATTERN, _CALLABLE, _TYPE, _REST = 5, 4, 3, 2, 1


class Site(NamedTuple):
    """A place in a model that a rule can cover.

    Attributes:
        path: `"outer/inner/kernel"` for a variable, `"outer/inner"` for a layer.
        chain: The layers that hold it, outermost first, the model itself excluded.
        variable: The `keras.Variable`, or `None` where the site is a layer.
        aside: Whether it is part of a model that distills, and not of the student. Such a site is
            covered only where its own path, or it itself, is named.
    """

    path: str
    chain: tuple
    variable: Any = None
    aside: bool = False

    @property
    def layer(self):
        """The innermost layer that holds the site."""
        return self.chain[-1]


class Target(NamedTuple):
    """A variable that a rule covers, with the overrides given for it.

    Attributes:
        path: Path of the variable, unique in its model.
        variable: The `keras.Variable`.
        layer: The layer that owns it.
        options: Dict of overrides, empty where the rule gave none.
        named: Whether a rule of the user covers it; not where `None`, the default set of a dict,
            or `...` do.
    """

    path: str
    variable: Any
    layer: Any
    options: dict
    named: bool = False


def layer_sites(model):
    """Lists every layer inside `model`, nested ones and cells included, each once, outer first.

    In a `keras.distillation.Distiller` the student comes first, and what is inside it has the path
    that it has in the student itself.
    """
    sites, seen = [], {id(model)}

    def walk(layer, chain, prefix, aside):
        student = _student(layer)
        for child in sublayers(layer) if student is None else [student, *sublayers(layer)]:
            if id(child) in seen:
                continue
            seen.add(id(child))
            beside = aside or (student is not None and child is not student)
            path = prefix + child.name
            sites.append(Site(path, (*chain, child), aside=beside))
            walk(child, (*chain, child), "" if child is _student(model) else path + "/", beside)

    walk(model, (), "", False)
    return sites


def _student(layer):
    """The student of a model that distills, or `None`."""
    return layer.student if isinstance(layer, keras.distillation.Distiller) else None


def own_variables(layer):
    """The variables that a layer holds itself, not in a sublayer."""
    inner = {id(variable) for child in sublayers(layer) for variable in child.variables}
    return [variable for variable in layer.variables if id(variable) not in inner]


def variable_sites(model):
    """Lists every variable of `model`, each once, with the layers that hold it."""
    sites, seen, used = [], set(), {}
    for site in [*layer_sites(model), Site("", (model,), aside=_student(model) is not None)]:
        for variable in own_variables(site.layer):
            if id(variable) not in seen:
                seen.add(id(variable))
                path = f"{site.path}/{variable.name}".lstrip("/")
                sites.append(site._replace(path=path, variable=variable))
    order = {id(v): i for i, v in enumerate(model.variables)}
    sites.sort(key=lambda site: order.get(id(site.variable), len(order)))
    unique = []
    for site in sites:
        count = used[site.path] = used.get(site.path, -1) + 1
        unique.append(site._replace(path=f"{site.path}#{count}") if count else site)
    return unique


def is_part(layer):
    """Whether a layer is a part of the one that holds it, and not one that a user put there.

    It says so in an attribute `is_part`. Its weights are counted with those of the other, and it is
    not replaced by itself.
    """
    return getattr(layer, "is_part", False) is True


def weight_quantizers(layer):
    """Returns the `(variable, quantizer)` pairs of a layer that quantizes in its forward pass."""
    return list(getattr(layer, "weight_quantizers", ()))


def is_kernel(variable):
    """Whether a variable is kernel-like: floating, two axes or more, no bias, scale or LoRA's."""
    return (
        keras.backend.is_float_dtype(variable.dtype)
        and len(variable.shape) >= 2
        and _NOT_KERNELS.search(variable.name) is None
    )


def _quantized_in_forward(site):
    return any(v is site.variable for v, _ in weight_quantizers(site.layer))


def _why_not_default(site):
    """Why `None` does not cover a kernel-like weight, or `None` where it does."""
    if site.aside:
        return "it is not the student's"
    if _quantized_in_forward(site):
        return "its layer quantizes it"
    return None if site.variable.trainable else "it is frozen"


def _is_default(site):
    return not _why_not_default(site)


def _is_quantized(site):
    return not site.aside and _quantized_in_forward(site)


def _named(rule, site):
    if site.path == rule or site.path.startswith(rule + "/"):
        return True
    if site.variable is not None and site.variable.path == rule:
        return True
    return not site.aside and any(layer.name == rule for layer in site.chain)


class _Matcher:
    """One rule, prepared against all sites of a model."""

    def __init__(self, rule, sites, argument):
        self.rule = rule
        if rule is ...:
            self.rank, matches = _REST, lambda site: True
        elif isinstance(rule, str):
            self.rank, matches = _EXACT, lambda site: _named(rule, site)
        elif isinstance(rule, re.Pattern):
            self.rank, matches = _PATTERN, lambda site: rule.search(site.path) is not None
        elif isinstance(rule, type):
            self.rank = _TYPE
            matches = lambda site: any(isinstance(layer, rule) for layer in site.chain)  # noqa: E731
        elif isinstance(rule, keras.layers.Layer):
            self.rank = _EXACT
            matches = lambda site: any(layer is rule for layer in site.chain)  # noqa: E731
        elif isinstance(rule, keras.Variable):
            self.rank, matches = _EXACT, lambda site: site.variable is rule
        elif callable(rule):
            self.rank, matches = _CALLABLE, lambda site: bool(self._call(site))
        else:
            raise invalid(
                argument,
                rule,
                "None, a layer name or path, a compiled regular expression on paths, a layer type, "
                "a layer, a variable, a callable, a list of these, or a dict from these to "
                "overrides",
            )
        self.matched = {
            id(site) for site in sites if (self.rank == _EXACT or not site.aside) and matches(site)
        }
        if not self.matched and rule is not ...:
            raise ValueError(_nothing_matched(rule, sites, argument))

    def _call(self, site):
        if site.variable is None:
            return self.rule(site.layer)
        return self.rule(site.layer, site.variable)


def _nothing_matched(rule, sites, argument):
    paths = [site.path for site in sites]
    shown = "\n  ".join(paths[:50]) or "(nothing)"
    more = f"\n  ... and {len(paths) - 50} more" if len(paths) > 50 else ""
    hint = ""
    if isinstance(rule, str):
        names = {layer.name for site in sites for layer in site.chain} | set(paths)
        close = difflib.get_close_matches(rule, sorted(names), n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        if _looks_like_a_pattern(rule, paths):
            hint += f" A regular expression is given as re.compile({rule!r})."
    return (
        f"Invalid value for argument `{argument}`. {rule!r} matches nothing in this model.{hint} "
        f"It could have matched:\n  {shown}{more}"
    )


def _looks_like_a_pattern(rule, paths):
    try:
        return bool(set(rule) & set("^$*+?[]()|\\")) or any(re.search(rule, p) for p in paths)
    except re.error:
        return False


def best_rules(rules, sites, argument):
    """Maps each site to the value of the most precise rule that covers it.

    A name beats a pattern, a pattern a callable, a callable a type, and a type `...` (every site
    no other rule covers); between equals the later rule wins.

    Args:
        rules: Dict from rule to any value, or list of such pairs.
        sites: List of `Site`.
        argument: Name of the argument, for error messages.

    Returns:
        Dict from index in `sites` to the value, with uncovered sites left out.

    Raises:
        ValueError: If a rule is of no known form, or covers no site.
    """
    pairs = rules.items() if isinstance(rules, dict) else rules
    matchers = [(_Matcher(rule, sites, argument), value) for rule, value in pairs]
    chosen = {}
    for index, site in enumerate(sites):
        rank = 0
        for matcher, value in matchers:
            if matcher.rank >= rank and id(site) in matcher.matched:
                rank, chosen[index] = matcher.rank, value
    return chosen


def check_built(model, argument="model", weights=True):
    """Raises unless `model` is a built `keras.Model` (its weights exist), and has `weights`."""
    if not isinstance(model, keras.Model):
        raise invalid(argument, model, "a keras.Model")
    # A model whose `train_step` calls its parts is never built itself.
    if not model.variables and (weights or not model.built):
        raise ValueError(
            f"Invalid value for argument `{argument}`. Model {model.name!r} has no weights yet. "
            "Build it first: give it an `Input`, call `model.build(input_shape)`, or call it once "
            "on a batch of data."
        )


def find(model, targets=None, argument="targets", quantized=False):
    """Lists the variables of a built model that `targets` covers.

    Args:
        model: A built `keras.Model` of any kind: Sequential, functional, nested or subclassed.
        targets: One of
            `None`: every trainable kernel-like weight (kernels of Dense, EinsumDense, Conv*,
                Depthwise/Separable/Transpose, recurrent and attention layers, embeddings), except
                those that their layer quantizes in its own forward pass;
            a string: the name of a layer, or a path (`"block/dense"`, `"block/dense/kernel"`);
                never a regular expression;
            an `re.Pattern`: searched in the variables' paths;
            a layer type: kernel-like weights of such layers and of the layers inside them;
            a layer or a variable of the model;
            a callable `(layer, variable) -> bool`;
            a list of these: whatever any of them covers;
            a dict `{rule: overrides}`: the default set, in which a weight covered by a rule
                gets the rule's dict of overrides, or is left out where that is `None` or `False`.
                The key `...` stands for every weight no other rule covers. The most precise
                rule wins: name, then pattern, callable, type, `...`.
            A name, path, pattern or type covers kernel-like weights, frozen ones included; the
            full path of a variable covers that variable whatever it is. Of a
            `keras.distillation.Distiller` they cover the student alone; weights of its teacher are
            covered where their path, such as `"teacher/dense"`, or the layer or variable itself is
            given.
        argument: Name of the argument, for error messages.
        quantized: Whether the default set is, instead, that of the kernel-like weights which their
            layers quantize in their forward pass, frozen ones included.

    Returns:
        A list of `Target`, in the order of `model.variables`.

    Raises:
        ValueError: If the model is not built, or a rule matches nothing; the message lists what
            could have matched, and says how a regular expression is given where a string looks
            like one.

    Example:

    >>> import keras, tfcomp
    >>> model = keras.Sequential(
    ...     [keras.Input((8,)), keras.layers.Dense(4, name="a"), keras.layers.Dense(2, name="b")]
    ... )
    >>> [target.layer.name for target in tfcomp.targets.find(model, {"b": None})]
    ['a']
    """
    check_built(model)
    # Without overrides, a full path covers any variable.
    rules = [] if _adds_to_default(targets) else [r for r, _ in _pairs(targets, argument)]
    named = {rule for rule in rules if isinstance(rule, str)}
    variables = {id(rule) for rule in rules if isinstance(rule, keras.Variable)}
    sites = [
        site
        for site in variable_sites(model)
        if is_kernel(site.variable) or site.path in named or id(site.variable) in variables
    ]
    is_default = _is_quantized if quantized else _is_default
    found = _covered(sites, targets, is_default, argument)
    if not found:
        left = {site.path for site in sites if is_default(site)}
        raise ValueError(
            f"Invalid value for argument `{argument}`. {targets!r} covers no weight of model "
            f"{model.name!r}: {_why_nothing(model, left, quantized)}."
        )
    return found


def _why_nothing(model, excluded, quantized):
    """Why a choice covers no weight, given the paths that it leaves out itself."""
    if excluded:
        return f"it leaves out each of its {len(excluded)}"
    if quantized:
        return "none of its layers quantizes a kernel in its forward pass"
    left = not_default(model)
    if left:
        reasons = {reason for _, reason in left}
        shown = "".join(f"\n  {path}: {reason}" for path, reason in left[:20])
        more = f"\n  ... and {len(left) - 20} more" if len(left) > 20 else ""
        common = f" for one reason, {reasons.pop()}" if len(reasons) == 1 else ""
        return f"all of its {len(left)} kernel-like weights are left out{common}:{shown}{more}"
    names = list(dict.fromkeys(variable.name for variable in model.weights))
    kinds = ", ".join(names[:10]) + ", ..." * (len(names) > 10)
    return (
        "it has no kernel-like weight, which is one of floating numbers and two axes or more that "
        f"is no bias, scale or statistic. Its weights are called {kinds}"
    )


def find_layers(model, targets, suits, argument="targets"):
    """Lists the layers of a built model that `targets` covers, as `find` lists its variables.

    Args:
        model: A built `keras.Model`.
        targets: Any form that `find` takes but for variables; callables get the layer alone.
        suits: Function from a layer to whether it may be covered; `None`, or the default set of a
            dict, are all of these.
        argument: Name of the argument, for error messages.

    Returns:
        A list of `Target` whose `variable` is `None`, outer layers first.

    Raises:
        ValueError: If the model is not built, or a rule matches nothing.
    """
    check_built(model)
    sites = [site for site in layer_sites(model) if suits(site.layer)]
    return _covered(sites, targets, lambda site: not site.aside, argument)


def _adds_to_default(targets):
    return targets is None or isinstance(targets, dict)


def _pairs(targets, argument):
    """Pairs of a rule and its overrides; none for `None`."""
    if _adds_to_default(targets):
        return list((targets or {}).items())
    rules = list(targets) if isinstance(targets, (list, tuple, set)) else [targets]
    if not rules:
        raise invalid(argument, targets, "at least one rule")
    return [(rule, {}) for rule in rules]


def _covered(sites, targets, is_default, argument):
    """The `Target` of each site that `targets` covers, in their order."""
    pairs = [(rule, (rule, value)) for rule, value in _pairs(targets, argument)]
    chosen = {}
    if _adds_to_default(targets):
        chosen = {index: (..., {}) for index, site in enumerate(sites) if is_default(site)}
    for index, (rule, value) in best_rules(pairs, sites, argument).items():
        if value is None or value is False:
            chosen.pop(index, None)
        elif not isinstance(value, dict):
            raise invalid(argument, value, "a dict of overrides or None as each value")
        # In a dict `...` means the default set, not every site there is.
        elif rule is not ... or index in chosen or not isinstance(targets, dict):
            chosen[index] = rule, value
    return [
        Target(sites[i].path, sites[i].variable, sites[i].layer, dict(options), rule is not ...)
        for i, (rule, options) in sorted(chosen.items())
    ]


def not_default(model):
    """Lists the kernel-like weights that `targets=None` leaves out, with the reason.

    Args:
        model: A built `keras.Model`.

    Returns:
        List of pairs of a path and a reason.
    """
    left = []
    for site in variable_sites(model):
        reason = _why_not_default(site) if is_kernel(site.variable) else _why_no_kernel(site)
        if reason:
            left.append((site.path, reason))
    return left


def _why_no_kernel(site):
    # Such as the integers of an int8 kernel, whose scale is of one axis.
    mode = getattr(site.layer, "quantization_mode", None)
    is_integer = keras.backend.is_int_dtype(site.variable.dtype)
    stands_in = mode and is_integer and len(site.variable.shape) >= 2
    return f"Keras has quantized it to {mode}" if stands_in else None
