"""From a trained student to what a server runs: ONNX, parity checks and the Triton repository."""

import os

# ONNX Runtime's wheels may report usage to Microsoft; it reads this when it is loaded. Set it to 0 beforehand to allow that.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
