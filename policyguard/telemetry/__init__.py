"""Telemetry: spans, metrics and log lines of what a guard does. Never the record: that is the store's.

The guard wraps its flows once (`path`), whoever drives them; what is measured there (`measures`) goes to every sink
alike: OpenTelemetry's API always (`otel`), Prometheus where a server asks for it (`policyguard.adapters.metrics`).
"""
