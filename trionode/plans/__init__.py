"""What to do with apps and containers, as data: pure functions from facts to actions with reasons.

Nothing here waits, asks or changes anything. Services gather the facts, carry the actions out and write
down what came of it. Facts: docs/spec/lifecycle.md §9, §11-§18.
"""
