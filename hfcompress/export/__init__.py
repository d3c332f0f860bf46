"""From a checkpoint to ONNX files that were proved equal."""
