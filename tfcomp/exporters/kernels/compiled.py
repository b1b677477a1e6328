"""Functions that XLA compiles."""

import tensorflow as tf


def compiled(function):
    """A function of tensors of known shapes that XLA compiles, without AutoGraph.

    Make one for all calls: it is traced and compiled once for each of the shapes it is called with.

    Args:
        function: Function of structures of tensors.
    """
    made = {}

    def call(*args):
        tensors = [tf.convert_to_tensor(x) for x in tf.nest.flatten(args)]
        specs = [tf.TensorSpec(x.shape, x.dtype) for x in tensors]
        key = tuple((tuple(spec.shape), spec.dtype.name) for spec in specs)
        if key not in made:
            structure = tf.nest.map_structure(lambda _: None, args)

            def of_flat(*flat):
                return function(*tf.nest.pack_sequence_as(structure, flat))

            traced = tf.function(of_flat, specs, jit_compile=True, autograph=False)
            # A call of the function would have TensorFlow warn that it is often traced.
            made[key] = traced.get_concrete_function()
        return made[key](*tensors)

    return call
