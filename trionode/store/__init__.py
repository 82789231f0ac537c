"""The Store port, its SQLite and memory implementations, and the event log kept on it."""
