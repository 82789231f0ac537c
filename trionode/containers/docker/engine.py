"""DockerEngine: the container engine of this machine behind its HTTP API (docs/spec/lifecycle.md §13).

`open_docker(url)` is the way in; aiodocker and asyncio are loaded there and nowhere else. API 1.41 and newer.
"""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import Any

from trionode.containers.docker import shapes
from trionode.containers.docker.answers import (
    NOT_RUNNING,
    decode,
    refused,
)
from trionode.containers.docker.bodies import (
    encoded,
    json_lines,
    log_lines,
    login,
    objects,
    output,
    segment,
    split_repotag,
    whole,
)
from trionode.containers.docker.events import DockerEvents
from trionode.containers.docker.machine import folder_has_project_quota, limit_open_files, open_files_here
from trionode.containers.docker.requests import Body, Requests
from trionode.containers.docker.streams import LogLines
from trionode.containers.engine import (
    CHANGES_BYTES,
    Conflict,
    ContainerDetails,
    ContainerRow,
    Credentials,
    EngineEvent,
    EngineInfo,
    Image,
    LogLine,
    Network,
    PullProgress,
    Volume,
)
from trionode.plans.createoptions import OPEN_FILES, CreateOptions, docker_body
from trionode.plans.networks import Subnet, network_body

NEVER_RESTART = b'{"RestartPolicy":{"Name":"no"}}'

Document = dict[str, Any]


@asynccontextmanager
async def open_docker(url: str) -> AsyncIterator[DockerEngine]:
    """The engine at unix:///path or tcp://host:port, for the length of a block.

    Whether it is there is seen at the first call; it may come, go and restart meanwhile.
    """
    # Loading the client takes a quarter of a second and some megabytes that a node without apps can spare.
    from trionode.containers.docker.link import open_link

    async with open_link(url) as link:
        yield DockerEngine(link, open_files=open_files_here())


class DockerEngine:
    """`Engine` on Docker. `open_files`: the most a container may be given on this machine."""

    def __init__(self, requests: Requests, *, open_files: int = OPEN_FILES) -> None:
        self._requests = requests
        self._open_files = open_files

    async def info(self) -> EngineInfo:
        """See `Engine.info`."""
        content = await self._requests.call("GET", "info", doing="ask about the engine")
        about = decode(content, shapes.About)
        version = decode(await self._requests.version(), shapes.AboutVersion)
        quota = about.is_on_xfs and folder_has_project_quota(about.docker_root_dir)
        return EngineInfo(
            version=version.version,
            api_version=version.api_version,
            architecture=version.arch,
            cpus=about.cpus,
            memory_bytes=about.mem_total,
            storage_driver=about.driver,
            disk_quota=quota,
            root=about.docker_root_dir,
        )

    @asynccontextmanager
    async def events(self) -> AsyncIterator[AsyncIterator[EngineEvent]]:
        """See `Engine.events`."""
        events = DockerEvents(self._requests)
        try:
            await events.open()
            yield events
        finally:
            await events.close()

    # --- containers ---------------------------------------------------------------------------

    async def containers(self) -> tuple[ContainerRow, ...]:
        """See `Engine.containers`."""
        content = await self._requests.call(
            "GET", "containers/json", doing="list containers", query={"all": "1"}
        )
        return tuple(one.row() for one in decode(content, list[shapes.ListedContainer]))

    async def inspect(self, container: str) -> ContainerDetails:
        """See `Engine.inspect`."""
        content = await self._look(container)
        return decode(content, shapes.InspectedContainer).details(decode(content, Document))

    async def create(self, options: CreateOptions) -> str:
        """See `Engine.create`."""
        content = await self._requests.call(
            "POST",
            "containers/create",
            doing=f"create {options.name}",
            query={"name": options.name},
            body=encoded(limit_open_files(docker_body(options), self._open_files)),
            secrets=options.environment,
        )
        return decode(content, shapes.Created).id

    async def start(self, container: str) -> None:
        """See `Engine.start`."""
        await self._act("start", container)

    async def stop(self, container: str, grace_s: float) -> None:
        """See `Engine.stop`. Engines count whole seconds."""
        await self._act("stop", container, {"t": str(math.ceil(max(grace_s, 0.0)))})

    async def kill(self, container: str) -> None:
        """See `Engine.kill`."""
        try:
            await self._act("kill", container)
        except Conflict as error:
            if NOT_RUNNING not in error.message:
                raise

    async def pause(self, container: str) -> None:
        """See `Engine.pause`."""
        await self._act("pause", container)

    async def unpause(self, container: str) -> None:
        """See `Engine.unpause`."""
        await self._act("unpause", container)

    async def never_restart(self, container: str) -> None:
        """See `Engine.never_restart`."""
        await self._requests.call(
            "POST",
            f"containers/{segment(container)}/update",
            doing=f"change the restart policy of {container}",
            body=NEVER_RESTART,
        )

    async def root_bytes(self, container: str) -> int:
        """See `Engine.root_bytes`."""
        content = await self._look(container, {"size": "1"})
        return decode(content, shapes.SizedContainer).size_root_fs

    async def remove(self, container: str, *, force: bool = False, volumes: bool = False) -> None:
        """See `Engine.remove`."""
        await self._requests.call(
            "DELETE",
            f"containers/{segment(container)}",
            doing=f"remove {container}",
            query={"force": str(int(force)), "v": str(int(volumes))},
        )

    async def top(self, container: str) -> Mapping[str, Any]:
        """See `Engine.top`."""
        path = f"containers/{segment(container)}/top"
        return decode(
            await self._requests.call("GET", path, doing=f"list processes of {container}"), Document
        )

    async def changes(self, container: str) -> Sequence[Mapping[str, Any]]:
        """See `Engine.changes`."""
        path = f"containers/{segment(container)}/changes"
        doing = f"list changes of {container}"
        async with self._requests.stream("GET", path, doing=doing) as body:
            content = await whole(body, CHANGES_BYTES, doing)
        # None at all are told as null.
        return [] if content.strip() == b"null" else decode(content, list[Document])

    @asynccontextmanager
    async def logs(
        self,
        container: str,
        *,
        lines: int | None = None,
        since_s: float | None = None,
        follow: bool = False,
        timestamps: bool = False,
    ) -> AsyncIterator[AsyncIterator[LogLine]]:
        """See `Engine.logs`."""
        # Only the container itself says everywhere whether its output comes in frames.
        known = decode(await self._look(container), shapes.InspectedContainer)
        query = {"stdout": "1", "stderr": "1", "tail": "all" if lines is None else str(max(lines, 0))}
        query |= {"follow": str(int(follow)), "timestamps": str(int(timestamps))}
        if since_s is not None:
            query["since"] = f"{since_s:.6f}"
        path = f"containers/{segment(container)}/logs"
        doing = f"read the output of {container}"
        async with self._requests.stream("GET", path, doing=doing, query=query) as body:
            cut = LogLines(terminal=known.config.tty, timestamps=timestamps)
            async with aclosing(log_lines(body, cut)) as found:
                yield found

    async def stats(self, container: str) -> Mapping[str, Any]:
        """See `Engine.stats`."""
        path, doing = f"containers/{segment(container)}/stats", f"measure {container}"
        return decode(await self._requests.call("GET", path, doing=doing, query={"stream": "0"}), Document)

    @asynccontextmanager
    async def stats_stream(self, container: str) -> AsyncIterator[AsyncIterator[Mapping[str, Any]]]:
        """See `Engine.stats_stream`."""
        path, doing = f"containers/{segment(container)}/stats", f"measure {container}"
        async with (
            self._requests.stream("GET", path, doing=doing, query={"stream": "1"}) as body,
            aclosing(objects(body)) as samples,
        ):
            yield samples

    @asynccontextmanager
    async def exec(
        self, container: str, command: Sequence[str], environment: Sequence[str] = ()
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """See `Engine.exec`. The command goes on when the block is left before its end."""
        doing = f"run a command in {container}"
        wanted = {"AttachStdout": True, "AttachStderr": True, "Cmd": list(command)}
        content = await self._requests.call(
            "POST",
            f"containers/{segment(container)}/exec",
            doing=doing,
            body=encoded(wanted | {"Env": list(environment)}),
            secrets=environment,
        )
        path = f"exec/{decode(content, shapes.Created).id}"
        start = b'{"Detach":false,"Tty":false}'
        async with (
            self._requests.stream(
                "POST", f"{path}/start", doing=doing, body=start, secrets=environment
            ) as body,
            aclosing(self._output(body, path, doing)) as pieces,
        ):
            yield pieces

    # --- networks -----------------------------------------------------------------------------

    async def networks(self) -> tuple[Network, ...]:
        """See `Engine.networks`."""
        content = await self._requests.call("GET", "networks", doing="list networks")
        return tuple(one.network() for one in decode(content, list[shapes.ListedNetwork]))

    async def network(self, name: str) -> Network:
        """See `Engine.network`."""
        path = f"networks/{segment(name)}"
        content = await self._requests.call("GET", path, doing=f"look at network {name}")
        return decode(content, shapes.ListedNetwork).network()

    async def create_network(self, name: str, subnet: Subnet, app: str) -> None:
        """See `Engine.create_network`."""
        # Older engines make a second network of the same name unless told to look.
        wanted = network_body(name, subnet, app) | {"CheckDuplicate": True}
        await self._requests.call(
            "POST", "networks/create", doing=f"create network {name}", body=encoded(wanted)
        )

    async def remove_network(self, name: str) -> None:
        """See `Engine.remove_network`."""
        path = f"networks/{segment(name)}"
        await self._requests.call("DELETE", path, doing=f"remove network {name}")

    async def connect(self, container: str, network: str) -> None:
        """See `Engine.connect`."""
        await self._requests.call(
            "POST",
            f"networks/{segment(network)}/connect",
            doing=f"connect {container} to {network}",
            body=encoded({"Container": container}),
        )

    async def disconnect(self, container: str, network: str, *, force: bool = False) -> None:
        """See `Engine.disconnect`."""
        await self._requests.call(
            "POST",
            f"networks/{segment(network)}/disconnect",
            doing=f"disconnect {container} from {network}",
            body=encoded({"Container": container, "Force": force}),
        )

    # --- images and volumes -------------------------------------------------------------------

    async def images(self) -> tuple[Image, ...]:
        """See `Engine.images`."""
        content = await self._requests.call("GET", "images/json", doing="list images")
        return tuple(one.image() for one in decode(content, list[shapes.ListedImage]))

    async def image(self, repotag: str) -> Image:
        """See `Engine.image`."""
        path = f"images/{segment(repotag, '/:@')}/json"
        content = await self._requests.call("GET", path, doing=f"look at image {repotag}")
        return decode(content, shapes.ListedImage).image()

    @asynccontextmanager
    async def pull(
        self, repotag: str, credentials: Credentials | None = None
    ) -> AsyncIterator[AsyncIterator[PullProgress]]:
        """See `Engine.pull`."""
        async with aclosing(self._pull(repotag, credentials)) as messages:
            yield messages

    async def remove_image(self, image: str) -> None:
        """See `Engine.remove_image`."""
        path = f"images/{segment(image, '/:@')}"
        await self._requests.call("DELETE", path, doing=f"remove image {image}")

    async def volumes(self) -> tuple[Volume, ...]:
        """See `Engine.volumes`."""
        content = await self._requests.call("GET", "volumes", doing="list volumes")
        return tuple(one.volume() for one in decode(content, shapes.ListedVolumes).volumes or ())

    async def remove_volume(self, name: str) -> None:
        """See `Engine.remove_volume`."""
        path = f"volumes/{segment(name)}"
        await self._requests.call("DELETE", path, doing=f"remove volume {name}")

    # --- inside -------------------------------------------------------------------------------

    async def _look(self, container: str, query: Mapping[str, str] | None = None) -> bytes:
        path = f"containers/{segment(container)}/json"
        return await self._requests.call("GET", path, doing=f"look at {container}", query=query)

    async def _act(self, action: str, container: str, query: Mapping[str, str] | None = None) -> None:
        path = f"containers/{segment(container)}/{action}"
        await self._requests.call("POST", path, doing=f"{action} {container}", query=query)

    async def _output(self, body: Body, path: str, doing: str) -> AsyncGenerator[bytes, None]:
        async with aclosing(output(body)) as pieces:
            async for piece in pieces:
                yield piece
        # The output of an engine that died ends in the same way as that of a command.
        await self._requests.call("GET", f"{path}/json", doing=doing)

    async def _pull(
        self, repotag: str, credentials: Credentials | None
    ) -> AsyncGenerator[PullProgress, None]:
        name, tag = split_repotag(repotag)
        doing = f"pull {repotag}"
        secrets = () if credentials is None else (credentials.username, credentials.password)
        headers = {} if credentials is None else {"X-Registry-Auth": login(name, credentials)}
        query = {"fromImage": name, "tag": tag}
        async with (
            self._requests.stream(
                "POST", "images/create", doing=doing, query=query, headers=headers, secrets=secrets
            ) as body,
            aclosing(json_lines(body)) as lines,
        ):
            async for line in lines:
                told = decode(line, shapes.ToldProgress)
                if told.problem:
                    raise refused(told.problem, None, doing=doing, secrets=secrets)
                yield told.progress()
