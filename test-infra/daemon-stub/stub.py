#!/usr/bin/env python3
"""Thin runner of the daemon stub; every option is that of `python -m trionode.sim.stub_server`."""

import sys

from trionode.sim.stub_server import main

if __name__ == "__main__":
    sys.exit(main())
