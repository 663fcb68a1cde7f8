"""Traces, metrics and logs: what of them has no colour. Everything works, as nothing, without OpenTelemetry."""
