"""Loop devices that the kernel lets go of by itself, just when the node does (lifecycle.md §12 "Volume")."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence

import pytest
from diskmachine import NAME, REQUEST, DiskMachine

from trionode.containers.disk import DiskError
from trionode.containers.machine.commands import Done

pytestmark = [pytest.mark.process, pytest.mark.trio]


class LastUser:
    """Somebody in the folder of the volume, and `Run` of that machine: he leaves at the command named."""

    def __init__(self, machine: DiskMachine, leaves_at: str) -> None:
        self._machine = machine
        self._leaves_at = leaves_at
        self.said: list[Done] = []
        """How those commands ended."""
        self._user: subprocess.Popen[bytes] | None = None

    def comes(self) -> None:
        self._user = subprocess.Popen(["sleep", "600"], cwd=self._machine.apps / NAME)

    def leaves(self) -> None:
        if self._user is not None:
            self._user.kill()
            self._user.wait()

    async def __call__(self, *words: str, given: str = "", holding: Sequence[int] = ()) -> Done:
        leaves = words[0] == self._leaves_at
        if leaves:
            self.leaves()
            while [line for line in self._machine.loops() if NAME in line]:
                continue
        done = await self._machine.run(*words, given=given, holding=holding)
        if leaves:
            self.said.append(done)
        return done


async def test_one_that_is_gone_before_it_is_detached_is_no_problem(machine: DiskMachine) -> None:
    run = LastUser(machine, "losetup")
    disk = machine.new_disk(run=run)
    await disk.create_volume(REQUEST)
    run.comes()
    try:
        await disk.remove_volume(NAME)
    finally:
        run.leaves()
    (said,) = run.said
    assert said.status != 0, "it was there still, and this test is for nothing"
    assert machine.left() == []


async def test_one_that_cannot_be_detached_is_a_problem(machine: DiskMachine) -> None:
    async def refuse(*words: str, given: str = "", holding: Sequence[int] = ()) -> Done:
        if words[0] == "losetup":
            return Done(1, "", "losetup: detach failed: Operation not permitted")
        return await machine.run(*words, given=given, holding=holding)

    user = LastUser(machine, "")
    disk = machine.new_disk(run=refuse)
    await disk.create_volume(REQUEST)
    user.comes()
    try:
        with pytest.raises(DiskError, match="not permitted") as caught:
            await disk.remove_volume(NAME)
    finally:
        user.leaves()
    assert caught.value.step == "delete"
    await machine.new_disk().remove_volume(NAME)
    assert machine.left() == []
