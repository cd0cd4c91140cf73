"""A local stand-in for TensorFlow Serving, for machines without Docker.

It serves the SavedModels under MODELS_DIR with TensorFlow Serving's gRPC API, error codes and error
messages. It loads new versions while it serves, and refuses versions whose files differ from their
manifest.

cli       the command line
settings  the settings and their valid values
server    start-up, the gRPC server, the polling thread, shutdown
manager   which versions are loaded, and which one answers
servable  one loaded version: decodes a request, runs the graph, warms up
tensors   converts TensorProtos to NumPy arrays and back
servicer  the gRPC services
manifest  compares the files of a version with the checksums in its manifest
tls       server credentials from TensorFlow Serving's SSLConfig file
errors    the exceptions
"""
