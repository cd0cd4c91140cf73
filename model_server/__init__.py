"""A local stand-in for TensorFlow Serving, with the same gRPC API."""
