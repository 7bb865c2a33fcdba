"""A model as one ONNX file: the graph, the proof that it answers as PyTorch does, and what int8 costs."""
