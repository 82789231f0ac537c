"""The figures of the scale model as a picture. Needs matplotlib: the extra `plot`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from trionode.errors import TrionodeError
from trionode.sim.scale.spread import Mode
from trionode.sim.scale.study import Picture

if TYPE_CHECKING:
    from matplotlib.axes import Axes

REMEDY = "install it with `pip install 'trionode[plot]'`, or leave --plot out"
_COLOURS: dict[Mode, str] = {
    "flood": "#b2182b",
    "flood at once": "#ef8a62",
    "hash, ask all": "#67a9cf",
    "hash": "#2166ac",
}
_STYLES = ("-", "--", ":", "-.")


class PlotError(TrionodeError):
    """The picture could not be drawn or written."""

    code = "plot"


def check_available() -> None:
    """Raises PlotError when there is nothing to draw with, before any work is done."""
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise PlotError("drawing needs matplotlib, which is not installed", remedy=REMEDY) from error


def draw(pictures: Sequence[Picture], file: Path) -> None:
    """Write both panels, spread over time and traffic, as PNG (or what the suffix says)."""
    check_available()
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4.2), dpi=100, layout="constrained")
    left, right = figure.subplots(1, 2)
    _draw_spread(left, pictures)
    _draw_traffic(right, pictures)
    try:
        figure.savefig(file, metadata={"Software": None} if file.suffix == ".png" else None)
    except (OSError, ValueError) as error:
        raise PlotError(
            f"cannot write the picture {file}: {error}", remedy="name a writable file ending in .png"
        ) from error


def _draw_spread(axes: Axes, pictures: Sequence[Picture]) -> None:
    for picture, style in zip(pictures, _STYLES, strict=False):
        for outcome in picture.outcomes:
            axes.plot(
                outcome.curve_s,
                range(len(outcome.curve_s)),
                style,
                color=_COLOURS[outcome.mode],
                label=f"{outcome.mode}, {picture.plan.nodes:,} nodes",
            )
    axes.set_xlabel("seconds since the message was sent")
    axes.set_ylabel("% of the nodes have it")
    axes.set_xlim(left=0)
    axes.set_ylim(0, 101)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=7, loc="lower right")


def _draw_traffic(axes: Axes, pictures: Sequence[Picture]) -> None:
    width = 0.8 / max(1, len(pictures))
    modes = list(dict.fromkeys(outcome.mode for picture in pictures for outcome in picture.outcomes))
    for number, picture in enumerate(pictures):
        sent_mb_h = {outcome.mode: outcome.out_mb_h for outcome in picture.outcomes}
        places = [place + number * width for place in range(len(modes))]
        bars = axes.bar(
            places,
            [sent_mb_h.get(mode, 0.0) for mode in modes],
            width * 0.92,
            color=[_COLOURS[mode] for mode in modes],
            alpha=1.0 - 0.35 * (len(pictures) - 1 - number) / max(1, len(pictures) - 1),
        )
        labels = [f"{sent_mb_h.get(mode, 0.0):.0f}\n{picture.plan.nodes // 1000}k nodes" for mode in modes]
        axes.bar_label(bars, labels=labels, fontsize=7)
    axes.set_xticks([place + width * (len(pictures) - 1) / 2 for place in range(len(modes))], modes)
    axes.set_ylabel("MB sent per node and hour")
    axes.margins(y=0.15)
    axes.grid(axis="y", alpha=0.3)
