"""The query service beside other ways to serve candidates: `python -m benchmarks.service`.

All peers run at the same time, and h2load asks one after another for the same candidates, in
interleaved rounds. Recall, rate, latency and the cost of exclusions are compared.

compare     starts all peers and measures them in rounds
peers       the peers: how each is started and asked, and how its answers are read
chroma      Chroma as a peer
servers     server processes of the peers
deployment  the model server and the query service
load        measures one peer under load
results     a table for each question, and ours relative to the others
catalogue   drawn vectors, ids, and the questions
model       publishes a model of drawn vectors
"""
