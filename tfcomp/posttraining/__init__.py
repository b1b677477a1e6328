"""Methods that compress a trained model in one call, without training it."""
