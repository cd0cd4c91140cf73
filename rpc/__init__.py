"""What every gRPC server of this project shares: TLS, tokens, rate limits, health, reflection.

It knows nothing of the services that use it and imports none of their packages. Modules without
"gRPC" in their line do not import it, so that a process may import them before it forks.

addresses.py         host and port as text; several addresses as one gRPC target
channel.py           opens a gRPC channel to one of our services, for clients
credentials.py       command-line options of clients: a token, certificates
errors.py            the exceptions of this package
exposure.py          refuses to listen on a public address without TLS and without tokens
guard.py             admits or refuses a call by its token and rate limit
handlers.py          a unary gRPC handler that can refuse calls before any work is done
health_servicer.py   grpc.health.v1 over gRPC
pem.py               reads and checks certificates and private keys
rate_limit.py        a token bucket
reflection.py        grpc.reflection.v1alpha over gRPC, behind the guard
status.py            gRPC status codes and error details of the exceptions
tls.py               gRPC credentials, reloaded when their files change
tokens.py            the token file
"""
