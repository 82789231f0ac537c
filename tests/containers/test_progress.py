"""What an operation tells of a pull is what the network knows."""

from __future__ import annotations

import pytest

from trionode.containers.engine import PullProgress
from trionode.containers.progress import of_pull


@pytest.mark.parametrize(
    ("step", "message"),
    [
        (
            PullProgress("Downloading", "ab12", 5, 10),
            {"status": "Downloading", "id": "ab12", "progressDetail": {"current": 5, "total": 10}},
        ),
        (PullProgress("Digest: sha256:1"), {"status": "Digest: sha256:1"}),
    ],
)
def test_of_a_layer_and_of_the_whole_image(step: PullProgress, message: dict[str, object]) -> None:
    assert of_pull(step) == message
