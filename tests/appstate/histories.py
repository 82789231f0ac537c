"""Random histories of an event log: few addresses, few names, many equal times."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from trionode.appstate.documents import EventRow
from trionode.appstate.windows import Windows
from trionode.config.tree import AppStateSettings
from trionode.wire.jsjson import stringify

WINDOWS = Windows.from_settings(
    AppStateSettings(running_expiry_ms=100, evicted_expiry_ms=100, sigterm_grace_ms=20)
)
IPS = ("1.1.1.1", "2.2.2.2", "3.3.3.3:16137", "1.1.1.1:16137")
KINDS = ("v2", "v2", "v1", "v1", "both", "appremoved", "sigterm", "evicted", "ipchanged")
NAMES = ("AppA", "APPA", "appa", "AppB", "C", "")

# Few different times and mostly one address: equal times and moments of expiry are where rules differ.
times = st.sampled_from(range(0, 160, 10))
ips = st.sampled_from(IPS[:1] * 6 + IPS)
names = st.sampled_from(NAMES)
values = st.one_of(st.none(), st.integers(0, 3), st.sampled_from(("2025-10-01T00:00:00.000Z", False)))
apps = st.lists(
    st.fixed_dictionaries({"name": names}, optional={"hash": st.sampled_from("hx"), "runningSince": values}),
    max_size=4,
)


@st.composite
def events(draw: st.DrawFn) -> EventRow:
    """Any document a log may hold, also odd ones: both members, apps null, early or late expireAt."""
    ip, at_ms = draw(ips), draw(times)
    expire_at_ms = at_ms + draw(st.sampled_from((100, 100, 100, 10, 300)))
    kind = draw(
        st.sampled_from(("v2", "v2", "v1", "v1", "both", "appremoved", "sigterm", "evicted", "ipchanged"))
    )
    if kind == "evicted":
        return EventRow(ip, "evicted", "evicted", expire_at_ms, created_at_ms=at_ms)
    data: dict[str, Any] = {"ip": ip, "broadcastedAt": at_ms}
    key, event_type = kind, kind
    if kind in ("v1", "v2", "both"):
        event_type, key = "apprunning", "v2"
        data |= draw(
            st.fixed_dictionaries(
                {}, optional={"runningSince": values, "osUptime": values, "staticIp": values}
            )
        )
        if kind != "v1":
            data["apps"] = draw(st.one_of(apps, apps, st.none()))
        if kind != "v2":
            data |= {"name": draw(names)} | draw(st.sampled_from(({"hash": "v"}, {})))
            key = f"v1:{data['name']}" if kind == "v1" or data["apps"] is None else "v2"
    elif kind == "appremoved":
        data["appName"] = draw(names)
        key = f"appremoved:{data['appName']}"
    elif kind == "ipchanged":
        data["newIP"] = draw(ips)
    return EventRow(ip, event_type, key, expire_at_ms, broadcasted_at_ms=at_ms, data_text=stringify(data))
