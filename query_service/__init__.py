"""The thin gRPC service: request -> servicer -> core -> model client and back."""
