"""A local stand-in for TensorFlow Serving, for machines without Docker.

The model server serves the SavedModels under MODELS_DIR with TensorFlow Serving's gRPC API, error
codes and error messages. It loads new versions without a restart, and refuses a version whose files
differ from its manifest.

cli.py       the command line
settings.py  the settings and their valid values
server.py    startup, the gRPC server, the polling thread, shutdown
manager.py   loads and unloads versions, and chooses the version that answers a request
servable.py  one loaded version: decodes requests, runs the graph, warms up
tensors.py   converts TensorProtos to NumPy arrays and back
servicer.py  the gRPC services
manifest.py  compares the files of a version with the checksums in its manifest
tls.py       server credentials from an SSLConfig file, which TensorFlow Serving also reads
errors.py    exceptions with TensorFlow Serving's status codes
"""
