"""When an app ends, and who still counts it as alive then (docs/spec/registry.md §8).

The four places that ask use four conditions; they differ at the height of the end itself, and all nodes
must agree on each, so each has its own function here.
"""

from __future__ import annotations

import math

from trionode.registry.constants import MAINNET, Constants
from trionode.wire.jsjson import JsValue, is_number


def expiration_height(registered_height: int, expire: JsValue = None, constants: Constants = MAINNET) -> int:
    """The last height of an app paid in block `registered_height` for `expire` blocks.

    None, 0 and whatever is no number stand for the default lifetime. Blocks that were paid for before PON
    and lie behind it count four times, since blocks come four times faster there.
    """
    named = is_number(expire) and math.isfinite(expire) and expire != 0
    blocks = int(expire) if named else constants.default_expire(registered_height)
    end = registered_height + blocks
    pon = constants.pon_height
    if registered_height < pon < end:
        return pon + (end - pon) * constants.speed(pon)
    return end


def is_current(end_height: int, height: int) -> bool:
    """Promotion (at the daemon's height) and reindex (at the scanned height) keep an app with this end."""
    return end_height > height


def is_name_held(end_height: int, payment_height: int) -> bool:
    """The name is still taken for a registration paid in block `payment_height`."""
    return end_height >= payment_height


def is_over(end_height: int, scanned_height: int) -> bool:
    """A local app with this end is to be removed."""
    return end_height < scanned_height


def is_swept(
    registered_height: int, end_height: int, scanned_height: int, constants: Constants = MAINNET
) -> bool:
    """The expire loop removes the current specification.

    The loop leaves out apps younger than the shortest lifetime, so a cancelled app lingers that long.
    """
    registry = constants.registry
    late = scanned_height >= registry.new_min_lifetime_height
    spared_blocks = registry.new_min_lifetime_blocks if late else registry.min_lifetime_blocks
    return is_over(end_height, scanned_height) and registered_height < scanned_height - spared_blocks
