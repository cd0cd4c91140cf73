"""The parts that our gRPC servers share: TLS, tokens, rate limits, health and reflection.

The package knows nothing about the services that use it and imports none of their packages. Only
health_servicer, reflection, status and tls load gRPC; a process may import the others before it
forks.

addresses.py        formats addresses, and refuses to listen on public ones without protection
credentials.py      command-line options, credentials and channels of clients
errors.py           the exceptions of this package
guard.py            refuses calls without a valid token and calls beyond the rate limit
health_servicer.py  grpc.health.v1 over gRPC
pem.py              reads and checks certificates and private keys
reflection.py       grpc.reflection.v1alpha over gRPC, behind the guard
status.py           gRPC status codes and error details of the exceptions
tls.py              gRPC credentials; those of a server are reloaded when their files change
tokens.py           the token file
varint.py           protobuf's variable-length integers
"""
