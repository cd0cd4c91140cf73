"""Compares Shortlist with other servers of candidates: `python -m benchmarks.service`.

All servers, called peers, run at the same time. In interleaved rounds, h2load sends the same
requests to one peer after another. Recall, rate, latency and the cost of exclusions are compared.
Kinds of requests are, for example, "plain" and "100 excluded"; `catalogue` lists all kinds.

compare     starts all peers and measures them in rounds
peers       how each peer is started and called, and how its answers are read
chroma      Chroma as a peer
servers     the server processes of the other peers, except for Shortlist
deployment  starts the model server, the query service and the peers' servers
load        measures one peer under load
results     one table per kind of request, and a summary relative to the other peers
catalogue   items and users with random vectors, and the kinds of requests
model       publishes a model with random vectors
"""
