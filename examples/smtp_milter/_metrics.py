"""What Prometheus is told."""

from __future__ import annotations

import prometheus_client as prometheus

VERDICTS = prometheus.Counter(
    "smtp_milter_verdicts", "What was told to the MTA, where it is not 'go on'", ["stage", "code"]
)
MESSAGES = prometheus.Counter("smtp_milter_messages", "Messages, by what became of them", ["fate"])
EDITS = prometheus.Counter("smtp_milter_edits", "Edits of messages", ["kind"])
FAILURES = prometheus.Counter("smtp_milter_gateway_failures", "Failures", ["gateway"])
CONNECTIONS = prometheus.Gauge("smtp_milter_gateway_connections", "In use", ["gateway"])
SECONDS = prometheus.Histogram(
    "smtp_milter_gateway_seconds",
    "From the content's beginning to the reply",
    ["gateway"],
    buckets=(0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 250),
)
SUNK = prometheus.Counter("smtp_milter_sink_messages", "Messages at the sink", ["what"])
