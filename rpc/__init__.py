"""Who may ask, and over what: TLS, tokens, rate limits. docs/security.md says how to use them.

exposure.py      refuses to listen where anyone could ask
pem.py           certificates and keys from files, each checked and named
tls.py           what gRPC makes of them: towards callers, and towards the model server
tokens.py        the file of tokens
rate_limit.py    how much of a rate is left
guard.py         lets a call in, or says why not; reads the file of tokens again
credentials.py   the other side: what ask, health and bench show the service
"""
