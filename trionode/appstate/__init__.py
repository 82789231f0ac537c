"""The event log as pure rules and a pure fold: judge, view, LocationIndex (docs/spec/events.md)."""
