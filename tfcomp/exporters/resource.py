"""A weight of a SavedModel that is decoded when the model is loaded."""

import tensorflow as tf


class DecodedWeight(tf.saved_model.experimental.TrackableResource):
    """Holds one tensor, which both loaders of SavedModels compute from what is stored.

    Args:
        name: Name of the resource, unique in its SavedModel.
        shape: Shape of the tensor.
        dtype: Its dtype.
        make: Callable that builds the ops which compute it.
    """

    def __init__(self, name, shape, dtype, make):
        super().__init__()
        self._name = name
        self._shape = shape
        self._dtype = tf.as_dtype(dtype)
        self._make = make

    def _create_resource(self):
        # A name, because in a session's graph the handle is computed anew at every step and must
        # lead to the same weight; `tf.saved_model.load` makes it unique to each load.
        return tf.raw_ops.VarHandleOp(dtype=self._dtype, shape=self._shape, shared_name=self._name)

    def _initialize(self):
        tf.raw_ops.AssignVariableOp(resource=self.resource_handle, value=self._make())

    def _destroy_resource(self):
        tf.raw_ops.DestroyResourceOp(resource=self.resource_handle, ignore_lookup_error=True)

    def read(self):
        """The tensor."""
        value = tf.raw_ops.ReadVariableOp(resource=self.resource_handle, dtype=self._dtype)
        # The handle comes out of a function when the model is loaded and no longer says its shape;
        # a matmul of unknown shapes is 1.6 times slower.
        return tf.ensure_shape(value, self._shape)
