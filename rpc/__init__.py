"""What every gRPC server of this project shares: TLS, tokens, rate limits, health, reflection.

It knows nothing of the services that use it and imports none of their packages. Only
health_servicer, reflection, status and tls load gRPC; a process may import the others before it
forks.

addresses.py        host and port as text, several addresses as one gRPC target, public addresses
credentials.py      options of clients: a token, certificates; opens their gRPC channels
errors.py           the exceptions of this package
guard.py            admits or refuses a call by its token and rate limit
health_servicer.py  grpc.health.v1 over gRPC
pem.py              reads and checks certificates and private keys
reflection.py       grpc.reflection.v1alpha over gRPC, behind the guard
status.py           gRPC status codes and error details of the exceptions
tls.py              gRPC credentials, reloaded when their files change
tokens.py           the token file
"""
