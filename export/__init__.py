"""From a trained student to what a server runs: ONNX, parity checks and the Triton repository."""
