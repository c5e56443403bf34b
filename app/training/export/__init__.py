"""The compiled form as an ONNX graph, for other runtimes."""
