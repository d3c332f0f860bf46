"""Numbers of fewer bits: int8 in ONNX graphs, and what of a graph can stand it."""
