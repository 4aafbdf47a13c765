"""What a model can be timed in: one file and one line here each."""

from acn_compress.backends.base import Backend
from acn_compress.backends.onnxruntime import OnnxRuntime
from acn_compress.backends.pytorch import PyTorch

BACKENDS: dict[str, Backend] = {"torch": PyTorch(), "onnx": OnnxRuntime()}
