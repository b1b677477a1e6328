"""A weight of a SavedModel that is decoded when the model is loaded."""

import tensorflow as tf

from tfcomp.exporters.decode import decode


class DecodedWeight(tf.saved_model.experimental.TrackableResource):
    """Holds one tensor, which both loaders of SavedModels fill from its coded form.

    Args:
        name: Name of the resource, unique in its SavedModel.
        coded: A `tfcomp.coding.Coded`.
        source: Callable that makes a scalar string tensor of bytes.
    """

    def __init__(self, name, coded, source):
        super().__init__()
        self._name = name
        self._coded = coded
        self._source = source
        self._dtype = tf.as_dtype(coded.dtype)

    def _create_resource(self):
        # A name, because in a session's graph the handle is computed anew at every step and must
        # lead to the same weight; `tf.saved_model.load` makes it unique to each load.
        return tf.raw_ops.VarHandleOp(
            dtype=self._dtype, shape=self._coded.shape, shared_name=self._name
        )

    def _initialize(self):
        tf.raw_ops.AssignVariableOp(
            resource=self.resource_handle, value=decode(self._coded, self._source)
        )

    def _destroy_resource(self):
        tf.raw_ops.DestroyResourceOp(resource=self.resource_handle, ignore_lookup_error=True)

    def read(self):
        """The tensor."""
        value = tf.raw_ops.ReadVariableOp(resource=self.resource_handle, dtype=self._dtype)
        # The handle comes out of a function when the model is loaded and no longer says its shape;
        # a matmul of unknown shapes is 1.6 times slower.
        return tf.ensure_shape(value, self._coded.shape)
