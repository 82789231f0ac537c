"""Names of images: from `owner/app:v1` to the registry and the repository behind it (registry.md §6).

The rules are Docker's: no registry means Docker Hub, a single word there belongs to `library/`, and a
registry on the machine itself is asked without TLS.
"""

from __future__ import annotations

import ipaddress
import re

import msgspec

from trionode.containers.images.registry import ImageError, ImageFault

DOCKER_HUB = "registry-1.docker.io"
DOCKER_HUB_NAMES = frozenset({"docker.io", "index.docker.io", DOCKER_HUB})
LIBRARY = "library/"

LONGEST_NAME = 255
"""With its registry, as engines have it."""
LONGEST_HOST, LONGEST_LABEL = 253, 63
"""What names of hosts can have (RFC 1035); a longer one cannot be looked up."""

_AUTHORITY = re.compile(r"(?:[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?\.)*[A-Za-z0-9-]+(?::[0-9]{1,5})?")
_WORD = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REPOSITORY = re.compile(rf"{_WORD}(?:/{_WORD})*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")


class ImageName(msgspec.Struct, frozen=True):
    """`authority` is host or host:port, `plain` whether it is asked over plain HTTP."""

    authority: str
    repository: str
    tag: str
    plain: bool

    @property
    def origin(self) -> str:
        return f"{'http' if self.plain else 'https'}://{self.authority}"

    def __str__(self) -> str:
        return f"{self.authority}/{self.repository}:{self.tag}"


def parse_name(repotag: str) -> ImageName:
    """The parts of `[registry/]name:tag`; raises ImageError. A digest instead of a tag is not enough."""
    name, colon, tag = repotag.rpartition(":")
    if not colon or "/" in tag:
        raise _bad(repotag, "has no tag")
    if not _TAG.fullmatch(tag):
        raise _bad(repotag, "has a tag that no registry takes")
    first, slash, rest = name.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost"):
        authority, repository = first, rest
    else:
        authority, repository = DOCKER_HUB, name
    if len(name) > LONGEST_NAME:
        raise _bad(f"{repotag[:60]}...", f"has a name of more than {LONGEST_NAME} characters")
    if not _AUTHORITY.fullmatch(authority) or not _can_be_asked(authority):
        raise _bad(repotag, "names a registry that is no host name")
    if authority in DOCKER_HUB_NAMES:
        authority = DOCKER_HUB
        if "/" not in repository:
            repository = LIBRARY + repository
    if not _REPOSITORY.fullmatch(repository):
        raise _bad(repotag, "is not a name that registries take")
    return ImageName(authority, repository, tag, _is_this_machine(authority))


def _can_be_asked(authority: str) -> bool:
    """Whether host and port are such that there can be something behind them."""
    host, _, port = authority.partition(":")
    labels = host.split(".")
    is_host = len(host) <= LONGEST_HOST and all(0 < len(label) <= LONGEST_LABEL for label in labels)
    return is_host and (not port or 0 < int(port) <= 65535)


def _is_this_machine(authority: str) -> bool:
    host = authority.partition(":")[0]
    if host == "localhost":
        return True
    try:
        return ipaddress.IPv4Address(host).is_loopback
    except ipaddress.AddressValueError:
        return False


def _bad(repotag: str, why: str) -> ImageError:
    return ImageError(ImageFault.BAD_NAME, f"the image {repotag!r} {why}")
