"""What traces a model into ONNX graphs; each backend is one file."""
