"""Process control and measurement shared by tests, benchmarks, chaos scenarios and the demo.

Nothing here is installed, and the product packages do not import it.

processes     start a server, wait until it is ready, signal it, stop it with its children
redis_server  a Redis server on a free port
waiting       wait until a condition is true
usage         processor use and memory of processes
h2load        run the load generator h2load (nghttp2) and read its measurements
"""
