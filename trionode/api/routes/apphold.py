"""Keeping an app back for a backup or restore of its files, and letting it go (docs/api.md).

Our own routes: the network's backup tasks (docs/spec/api.md §8.4) are left out, so whoever runs the node
copies the files with tools of their own and says so here.
"""

from __future__ import annotations

from trionode.api.answers import Answer, ApiFailure, success
from trionode.api.appcall import (
    caller_of,
    containers_of_node,
    desk_of,
    installed_app,
    states_of,
    whole_app,
)
from trionode.api.call import Call
from trionode.api.dates import iso
from trionode.api.levels import Level
from trionode.api.route import MESSAGE, Param, Route
from trionode.api.routes.appcontrol import do_each, require_free
from trionode.plans.control import Command, plan_hold, plan_release

USUAL_MIN, LONGEST_MIN = 60, 24 * 60
APP = Param("appname", "Name of the app", required=True)


async def hold(call: Call) -> Answer:
    """Keep an app back and stop it. With another time for one that is held already, that counts."""
    containers, hosting = containers_of_node(call), call.context.settings.hosting
    app = installed_app(containers, whole_app(call, "held"))
    require_free(containers, app)
    keeps_running = call.flag("running")
    minutes = call.number("minutes", default=USUAL_MIN, low=1, high=LONGEST_MIN)
    until_ms = call.context.clock.now_ms() + minutes * 60_000

    async def work() -> Answer:
        # first, so that nobody starts it again
        await containers.holds.put(app.name, until_ms)
        if not keeps_running:
            running = plan_hold(app.components, await states_of(containers))
            await do_each(containers, Command.STOP, running, hosting)
        return success(f"{app.name} is held until {iso(until_ms)}")

    return await desk_of(call).do(work, caller_of(call))


async def release(call: Call) -> Answer:
    """Let an app go, and start what is not stopped on purpose."""
    containers, hosting = containers_of_node(call), call.context.settings.hosting
    app = installed_app(containers, whole_app(call, "released"))
    if app.name not in containers.holds.until_ms:
        raise ApiFailure(f"{app.name} is not held", status="warning")

    async def work() -> Answer:
        await containers.holds.drop(app.name)
        waiting = plan_release(app.components, await states_of(containers), containers.stops.names)
        await do_each(containers, Command.START, waiting, hosting)
        return success(f"{app.name} is no longer held")

    return await desk_of(call).do(work, caller_of(call))


_GROUP = "trionode"

ROUTES = (
    Route(
        "/trionode/apphold",
        hold,
        "Keep an app back for a backup or restore: stopped, and let alone until it is released",
        _GROUP,
        level=Level.ADMIN,
        params=(
            APP,
            Param("minutes", f"For how long at most, up to {LONGEST_MIN} [{USUAL_MIN}]", kind="integer"),
            Param("running", "Do not stop it", kind="boolean"),
        ),
        result=MESSAGE,
        acts=True,
    ),
    Route(
        "/trionode/apprelease",
        release,
        "The backup or restore of an app is over",
        _GROUP,
        level=Level.ADMIN,
        params=(APP,),
        result=MESSAGE,
        acts=True,
    ),
)
