"""From a PyTorch model to a bundle of ONNX graphs, and the proof that the bundle is the model."""
