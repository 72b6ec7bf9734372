"""TensorRT engines; the only importer of TensorRT."""
