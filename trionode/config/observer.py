"""Settings of the observer: a node without daemon, key or collateral (docs/observer.md)."""

from __future__ import annotations

from typing import Annotated

from trionode.config.section import Section, about


class ObserverSettings(Section, frozen=True, kw_only=True):
    """`trionode observe`: whom it asks, how often, and how many links it takes from others."""

    seeds: Annotated[
        tuple[str, ...], about("nodes asked first, HOST or HOST:PORT; best three of different operators")
    ] = ()
    sources: Annotated[int, about("nodes asked over HTTP at most; majority of them decides", ge=3, le=15)] = 5
    links: Annotated[int, about("peer links held at most; each takes an inbound place", ge=1, le=4)] = 4
    height_interval_s: Annotated[float, about("pause between two questions for the height", gt=0)] = 60.0
    node_list_interval_s: Annotated[float, about("pause between two readings of the node list", gt=0)] = 600.0
    spec_interval_s: Annotated[float, about("pause between two readings of all specifications", gt=0)] = (
        3600.0
    )
    retry_s: Annotated[float, about("pause after a round without a majority; doubles", gt=0)] = 15.0
    jitter: Annotated[float, about("random part of every pause, 0.2 = up to a fifth more", ge=0, le=1)] = 0.2
    answer_limit_s: Annotated[float, about("time for a short answer", gt=0)] = 10.0
    list_limit_s: Annotated[float, about("time for a whole list", gt=0)] = 60.0
    list_limit_bytes: Annotated[int, about("longest list, unpacked", ge=1024)] = 32 * 1024 * 1024
    failures_max: Annotated[int, about("failures in a row after which another node is asked", ge=1)] = 3
    rest_s: Annotated[float, about("time a failed or outvoted node is not asked again", ge=0)] = 1800.0
    dissent_max: Annotated[
        float, about("share of rows in which a node may differ before another one is asked", ge=0, le=1)
    ] = 0.05
    reload_after_s: Annotated[
        float, about("time without any link after which locations are read over HTTP again", gt=0)
    ] = 300.0
