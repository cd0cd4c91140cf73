"""Telemetry for operators: metrics, traces, and log lines about requests.

The other packages do not know the kinds of telemetry. Decorators observe the model and the seen
store from outside, and an observer reports to the metrics, the traces and the log.

observer.py     observes requests and answers
decorators.py   observe the model, its Predicts and the seen store
metrics.py      every metric, with its name and labels
registry.py     counters, gauges and histograms in memory that all workers share
exporter.py     the HTTP port for Prometheus; the only module that imports prometheus_client
tracing.py      decides from the environment whether spans are exported
spans.py        OpenTelemetry spans; imported only if they are exported
request_log.py  log lines about slow and failed requests
logs.py         the format of log lines: text or JSON, without the messages of exceptions
"""
