"""What this node runs: the RunningApps port and the announcements made of it (docs/spec/events.md §9)."""
