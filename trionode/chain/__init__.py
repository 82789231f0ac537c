"""The chain daemon and what the node learns from it (docs/spec/daemon-rpc.md)."""
