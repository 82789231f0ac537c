"""Getting the registry complete: app messages from gossip, and the fetching of missing ones."""
