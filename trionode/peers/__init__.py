"""Peer links, who to dial, liveness, exchange and gossip (docs/spec/wire.md §1-§6, §9, §13)."""
