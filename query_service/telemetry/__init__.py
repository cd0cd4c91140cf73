"""What operators see of the service: metrics, traces, and lines about requests.

observer.py      what the other packages tell; the only door to the rest
metrics.py       what is counted, under which names
instruments.py   counters, gauges and histograms on shared numbers
rows.py          the numbers: a row for each worker, in memory that all of them share
exporter.py      the port that Prometheus reads; the only module that imports its client
process.py       what a worker knows of its own process
tracing.py       whether spans are wanted
spans.py         OpenTelemetry's spans; imported only where they are
request_log.py   lines about slow and failed requests
log_format.py    how lines are written, as text or JSON, without messages of exceptions
"""
