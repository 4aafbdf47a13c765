"""What a model can be exported to: one file and one line here each."""

from acn_compress.targets.base import Target
from acn_compress.targets.onnx import Onnx
from acn_compress.targets.safetensors import Safetensors

TARGETS: dict[str, Target] = {"onnx": Onnx(), "safetensors": Safetensors()}
