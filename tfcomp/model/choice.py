"""Which of the weights that `targets` covers a method can be applied to."""

from tfcomp import targets as targets_lib
from tfcomp.model.result import LeftOut
from tfcomp.validation import invalid


class Unsuited(ValueError):
    """A method cannot be applied to a weight; the message says why."""


def why_not_plain(layer):
    """Why the kernel of a layer is not all that it multiplies by, or `None` where it is."""
    if getattr(layer, "lora_enabled", False):
        return "its layer has LoRA enabled"
    if getattr(layer, "quantization_mode", None) is not None:
        return "Keras has quantized its layer"
    return None


def choose(model, targets, prepare=lambda target: target, options=(), find=targets_lib.find):
    """Splits the weights of a model in those to work on and those left out.

    What `None`, the default set of a dict, or `...` cover is left out where the method is not made
    for it, and so are weights that `None` does not cover; what the user named raises.

    Args:
        model: A built `keras.Model`.
        targets: Which weights, in any form `tfcomp.targets.find` takes.
        prepare: Function of a `tfcomp.targets.Target` that returns what the method needs, or raises
            `Unsuited`.
        options: Names that overrides may have.
        find: Function of `model` and `targets` that lists what is covered, if not weights.

    Returns:
        List of what `prepare` returned, and list of `LeftOut`.

    Raises:
        ValueError: If something that the user named is unsuited, or all are.
    """
    found = find(model, targets)
    chosen, left, refused = [], [], []
    for target in found:
        if set(target.options) - set(options):
            expected = f"overrides for {target.path} among {list(options)}"
            raise invalid("targets", target.options, expected)
        try:
            chosen.append(prepare(target))
        except Unsuited as reason:
            left.append(LeftOut(target.path, str(reason)))
            if target.named:
                refused.append(left[-1])
    if refused or not chosen:
        reasons = "; ".join(f"{path}: {reason}" for path, reason in refused or left)
        reasons = reasons or f"model {model.name!r} has no layer of such a kind"
        raise invalid("targets", targets, f"what this can be done to ({reasons})")
    if find is targets_lib.find and (targets is None or isinstance(targets, dict)):
        covered = {target.path for target in found}
        excluded = [LeftOut(*pair) for pair in targets_lib.not_default(model)]
        left += [each for each in excluded if each.path not in covered]
    return chosen, left
