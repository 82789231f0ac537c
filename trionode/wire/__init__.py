"""Bytes to values and back: frames, signed envelopes, JavaScript-exact JSON, signatures (docs/spec/wire.md)."""
