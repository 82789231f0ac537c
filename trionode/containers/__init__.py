"""Real apps in a container engine: installed, started, healed, linked, removed (lifecycle.md §9-§19).

Decisions are made in `trionode.plans` and `trionode.lifecycle`; the services here gather the facts, carry
the actions out and tell what came of them. Engine, disk, firewall and image registry are seams with memory
twins, so that the simulator runs the very same services.
"""
