"""CPU time at several points: a table of it while it is measured, and a small plot."""

import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pygal
from pygal.style import Style

# It finds packages with maps, in a way that Python does not know any more, and other imports would stumble over it.
sys.meta_path[:] = [finder for finder in sys.meta_path if not isinstance(finder, pygal.PluginImportFixer)]

# Gray is readable on white and on black.
_GRAY = "#808080"
_STYLE = Style(
    background="transparent",
    plot_background="transparent",
    foreground=_GRAY,
    foreground_strong=_GRAY,
    foreground_subtle=_GRAY,
    guide_stroke_color=f"{_GRAY}50",
    major_guide_stroke_color=f"{_GRAY}50",
    colors=("#3b82f6", "#e07b39", "#2e9e6b"),
    opacity="1",
    label_font_size=13,
    major_label_font_size=13,
    legend_font_size=13,
    title_font_size=14,
)
_UNIT = "CPU time, ms"
_LEAST = 1e-3  # ms: on a logarithmic scale there is no 0


@dataclass(frozen=True)
class Curve:
    """CPU time in ms of each of the `lines`, at each of the `points`: so many of what `axis` names.

    `label` writes a point. `logarithmic` is the scale of the plot's CPU time; that of the points always is.
    """

    title: str
    axis: str
    lines: Sequence[str]
    points: Sequence[int]
    measure_at: Callable[[int], Sequence[float]]
    label: Callable[[int], str] = "{:,}".format
    logarithmic: bool = False

    def measure(self) -> list[Sequence[float]]:
        """Prints a table. Returns its rows, one for each point."""
        print(f"\n{self.title}: {_UNIT}\n{self.axis:>12}" + "".join(f"{line:>20}" for line in self.lines))
        rows = []
        for point in self.points:
            rows.append(self.measure_at(point))
            print(f"{self.label(point):>12}" + "".join(f"{value:>20.2f}" for value in rows[-1]), flush=True)
        return rows

    def plot(self, rows: Sequence[Sequence[float]]) -> bytes:
        """As SVG."""
        values = [max(value, _LEAST) for row in rows for value in row]
        lowest, highest, labels = 0.0, max(values) * 1.1, None
        if self.logarithmic:
            lowest, highest = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
            labels = [{"value": power, "label": f"{10.0**power:,g}"} for power in range(lowest, highest + 1)]
        chart = pygal.XY(
            style=_STYLE,
            js=[],
            width=560,
            height=280,
            margin=10,
            margin_right=20,
            margin_bottom=25,
            max_scale=6,
            dots_size=4,
            show_x_guides=False,
            legend_at_bottom=True,
            legend_at_bottom_columns=len(self.lines),
            truncate_legend=-1,
            title=f"{self.title}: {_UNIT}",
            x_title=self.axis,
            range=(lowest, highest),
            y_labels=labels,
        )
        chart.x_labels = [{"value": math.log10(point), "label": self.label(point)} for point in self.points]
        for line, heights in zip(self.lines, zip(*rows, strict=True), strict=True):
            chart.add(line, [self._dot(*dot) for dot in zip(self.points, heights, strict=True)])
        plotted: bytes = chart.render()
        return plotted

    def _dot(self, point: int, value: float) -> tuple[float, float]:
        return math.log10(point), math.log10(max(value, _LEAST)) if self.logarithmic else value
