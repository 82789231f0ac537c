"""The app registry: what a registration says, whether to believe it, what it costs, how long it lives.

Pure rules of docs/spec/registry.md; the store and the services around them live in other rooms.
"""
