"""Products with compressed weights, in TensorFlow's own ops.

A kernel is a pair: a function of NumPy arrays that lays the weights out, and one of tensors that
multiplies by them. Nothing here knows of Keras.
"""
