"""Telemetry for operators: metrics, traces, and log lines about requests.

Decorators around the model and the seen store measure them from outside. An observer reports each
request to the metrics, the traces and the log, so that other packages depend on the observer alone.

observer.py     observes requests and answers
decorators.py   observes the model, its Predicts and the seen store
metrics.py      every metric, with its name and labels
registry.py     counters, gauges and histograms in memory that all workers share
exporter.py     the HTTP port for Prometheus; the only module that imports prometheus_client
tracing.py      decides from the environment whether spans are exported
spans.py        OpenTelemetry spans; imported only if they are exported
request_log.py  log lines about slow and failed requests
logs.py         the format of log lines: text or JSON, without the messages of exceptions
"""
