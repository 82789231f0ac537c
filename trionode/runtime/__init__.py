"""Small shared tools of the services: clock, gate, event bus, counters, supervisor, logs."""
