"""Real apps in a container engine: installed, started, healed, linked, removed (lifecycle.md §9-§19).

Decisions are made in `trionode.plans` and `trionode.lifecycle`; the services here gather the facts, carry
the actions out and tell what came of them. Engine, disk, firewall and image registry are seams with memory
twins, so that the simulator runs the very same services.

Beside the ports and the composition there are rooms: `docker`, `machine` and `images` are the real seams,
`memory` their twins; `install` makes and removes apps, `health` keeps them as they should be, `spawning`
brings them, `monitors` looks after them over time, `node` says what this node is.
"""
