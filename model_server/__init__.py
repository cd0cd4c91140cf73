"""A local stand-in for TensorFlow Serving: the same gRPC API over the same SavedModels."""
