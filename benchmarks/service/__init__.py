"""The query service beside other ways to serve candidates: `python -m benchmarks.service`.

compare     starts all peers and measures them in rounds
peers       the peers: how each is started and asked, and how its answers are read
chroma      Chroma as a peer
servers     server processes of the peers
deployment  the model server and the query service
load        measures one peer under load
results     the measured cases, and ours relative to the others
report      tables and the plot
catalogue   drawn vectors, ids, and the questions
model       publishes a model of drawn vectors
"""
