"""Bytes to values and back: frames, envelopes, JavaScript-exact JSON, signatures (docs/spec/wire.md)."""
