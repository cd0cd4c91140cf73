"""The parts that our gRPC servers share: TLS, tokens, rate limits, health and reflection.

The package imports nothing from the services that use it. Only health_servicer, reflection, status
and tls load gRPC; a process may import the other modules before it forks.

addresses.py        formats addresses, and refuses to listen on public ones without protection
credentials.py      the command-line options, credentials and channels of clients
errors.py           the exceptions of this package
guard.py            refuses calls without a valid token and calls beyond the rate limit
health_servicer.py  the health service, grpc.health.v1
pem.py              reads and checks certificates and private keys
reflection.py       the reflection service, grpc.reflection.v1alpha, behind the guard
status.py           the gRPC status code and error details of each exception
tls.py              gRPC credentials; a server reloads its files when they change
tokens.py           the token file
varint.py           protobuf's variable-length integers
"""
