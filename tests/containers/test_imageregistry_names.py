"""Names of images lead to the registry that an engine would ask too."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trionode.containers.images.names import parse_name
from trionode.containers.images.registry import ImageError, ImageFault


@pytest.mark.parametrize(
    ("repotag", "url"),
    [
        ("busybox:1", "https://registry-1.docker.io library/busybox 1"),
        ("owner/app:latest", "https://registry-1.docker.io owner/app latest"),
        ("docker.io/busybox:1", "https://registry-1.docker.io library/busybox 1"),
        ("index.docker.io/owner/app:1", "https://registry-1.docker.io owner/app 1"),
        ("ghcr.io/owner/a/b_c:V1.0-rc", "https://ghcr.io owner/a/b_c V1.0-rc"),
        ("ghcr.io/app:1", "https://ghcr.io app 1"),
        ("registry:5000/app:1", "https://registry:5000 app 1"),
        ("198.18.0.5:5000/app:1", "https://198.18.0.5:5000 app 1"),
        ("127.0.0.77:5000/app:1", "http://127.0.0.77:5000 app 1"),
        ("127.5.5.5/owner/app:1", "http://127.5.5.5 owner/app 1"),
        ("localhost/app:1", "http://localhost app 1"),
        ("localhost:80/app:1", "http://localhost:80 app 1"),
        # Not a registry: no dot, no port.
        ("local/app:1", "https://registry-1.docker.io local/app 1"),
        ("127.0.0.1.example.com/app:1", "https://127.0.0.1.example.com app 1"),
    ],
)
def test_where_a_name_leads(repotag: str, url: str) -> None:
    name = parse_name(repotag)
    assert f"{name.origin} {name.repository} {name.tag}" == url


@pytest.mark.parametrize(
    "repotag",
    [
        "",
        "app",
        "owner/app",
        "registry:5000/app",
        ":tag",
        "app:",
        "App:1",
        "owner//app:1",
        "/app:1",
        "owner/app/:1",
        "owner/../app:1",
        "owner/app:1/..",
        "owner/app:a b",
        "owner/app:a?b",
        "owner/a#b:1",
        "owner/a%2f:1",
        "anna:word@ghcr.io/app:1",
        "ghcr.io:port/app:1",
        "ghcr.io:123456/app:1",
        "ghcr.io:65536/app:1",
        "ghcr.io:0/app:1",
        f"{'a' * 64}.com/owner/app:1",
        f"{'a.' * 130}com/app:1",
        f"owner/{'a/' * 130}app:1",
        "owner/\ud800:1",
        "[::1]:5000/app:1",
        "app@sha256:" + 64 * "0",
        "app:v1@sha256:" + 64 * "0",
        "app:" + 129 * "a",
        "app:1\n",
        "äpp:1",
        "ghcr.io\\evil/app:1",
    ],
)
def test_names_that_no_registry_takes(repotag: str) -> None:
    with pytest.raises(ImageError) as caught:
        parse_name(repotag)
    assert caught.value.code == ImageFault.BAD_NAME


@given(st.text(alphabet="aB0.:/_-@?#%\\[]\n ", max_size=24))
def test_whatever_is_accepted_makes_a_clean_address(repotag: str) -> None:
    try:
        name = parse_name(repotag)
    except ImageError:
        return
    assert not set(f"{name.authority}{name.repository}{name.tag}") & set("@?#%\\[]\n ")
    assert parse_name(str(name)) == name
