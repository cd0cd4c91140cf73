"""The query service beside other ways to serve candidates: `python -m benchmarks.service`.

compare    starts every peer, measures them in turns
catalogue  drawn vectors, ids, and the questions
model      publishes a model of drawn vectors
peer, peers, chroma, servers   the peers and their server processes
processes  starts and stops servers
load, usage    h2load, and the processor time and memory that servers use
results, report    figures, tables and the plot
swaps      memory of the servers while versions change
"""
