"""ONNX graphs in FP32, FP16 and INT8."""
