"""The front door (one port) and the HTTP API (docs/spec/api.md)."""
