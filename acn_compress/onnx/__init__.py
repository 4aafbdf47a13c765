"""ONNX files, compared with the network before anyone sees them."""
