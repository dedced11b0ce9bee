"""An exported SavedModel behind TensorFlow Serving's REST interface, without Keras or JAX.

`settings` needs nothing but Python; `running.serve` needs the extra `serve`.
"""
