"""An exported SavedModel behind HTTP, as TensorFlow Serving's REST interface, without Keras or JAX
in the process.

`settings` needs nothing but Python; `running.serve` needs the extra `serve`.
"""
