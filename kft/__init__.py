"""Fine-tune pretrained language models on labelled text with Keras 3 on JAX or PyTorch."""

__version__ = "0.1.0"
