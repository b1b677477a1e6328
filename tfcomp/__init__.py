"""Small and fast neural networks for Keras 3."""
