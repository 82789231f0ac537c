"""The observer: follows the network without daemon, key or collateral (docs/observer.md)."""
