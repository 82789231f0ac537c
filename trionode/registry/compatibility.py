"""What an update may change of the app it updates (docs/spec/registry.md §6, update compatibility)."""

from __future__ import annotations

from collections.abc import Mapping

from trionode.registry.reasons import Reason, reject
from trionode.wire.jsjson import JsValue

_COMPOSED = 4
_FREE_COMPONENTS = 8
LATEST_VERSION = 8


def check_update_compatible(new: Mapping[str, JsValue], previous: Mapping[str, JsValue]) -> None:
    """Raise Rejected if `new` cannot follow `previous`; both have passed validation."""
    version, before = new["version"], previous["version"]
    if version >= _COMPOSED:
        if before >= _COMPOSED and not (version >= _FREE_COMPONENTS and before >= _FREE_COMPONENTS):
            _check_components(new["compose"], previous["compose"])
    elif before >= _COMPOSED:
        reject(Reason.UPDATE_DOWNGRADE, "version", version, before)
    elif new["repotag"] != previous["repotag"]:
        reject(Reason.UPDATE_REPOTAG, "repotag", new["repotag"], previous["repotag"])


def may_change_version(new: Mapping[str, JsValue], previous: Mapping[str, JsValue]) -> bool:
    """What is asked of our own users on top: the version stays, or becomes the latest."""
    return bool(new["version"] in (previous["version"], LATEST_VERSION))


def _check_components(new: list[dict[str, JsValue]], previous: list[dict[str, JsValue]]) -> None:
    """Below v8 components keep their number and their names; their order and images are free."""
    if len(new) != len(previous):
        reject(Reason.UPDATE_COMPONENT_COUNT, "compose", len(new), len(previous))
    names = {component["name"] for component in new}
    for component in previous:
        if component["name"] not in names:
            reject(Reason.UPDATE_COMPONENT_NAME, "compose", component["name"])
