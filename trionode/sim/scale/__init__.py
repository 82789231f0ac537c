"""The live network as a model of messages: no sockets, no tasks, only the node's own decisions.

docs/scale.md says what comes out; `trionode sim scale` runs it.
"""
