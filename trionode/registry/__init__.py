"""The app registry: what a registration says, whether it may be believed, what it costs and how long it lives.

Pure rules of docs/spec/registry.md; the store and the services around them live in other rooms.
"""
