"""The life of a node as pure rules: what phase it is in, what it may do, how it comes up and goes down.

Everything here is a value or a plain function (docs/spec/lifecycle.md); the services that feed these
rules and carry out what they decide live in `chain`, `hosting` and `sync`.
"""
