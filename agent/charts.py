"""Runs Python code in the sandbox's own interpreter and keeps the charts that it shows.

This is never imported by the agent: its text is handed to whatever Python 3 the image has, followed by a call of
`main`. Hence old syntax, the standard library alone, and matplotlib only once the code itself imports it.
"""

from __future__ import annotations

import base64
import builtins
import importlib.util
import io
import json
import linecache
import math
import os
import sys
import traceback
import types
from typing import Any

SOURCE = "<code>"


def main(code_file: Any, charts_file: Any) -> None:
    """Run the code in the file with the first number as `__main__`; charts go to the second, one JSON line each."""
    with open(f"/proc/self/fd/{code_file}", encoding="utf-8", errors="surrogateescape", newline="") as file:
        code = file.read()
    os.close(code_file)
    linecache.cache[SOURCE] = (len(code), None, code.splitlines(True), SOURCE)
    sys.meta_path.insert(0, Watch(charts_file))
    module = types.ModuleType("__main__")
    module.__dict__.update(__builtins__=builtins)
    sys.modules["__main__"] = module
    sys.path[0] = ""
    sys.excepthook = _without_our_frames
    exec(compile(code, SOURCE, "exec", dont_inherit=True), module.__dict__)  # noqa: S102  # it is what we are for


def _without_our_frames(kind: Any, value: Any, trace: Any) -> None:
    while trace is not None and trace.tb_frame.f_code.co_filename != SOURCE:
        trace = trace.tb_next
    traceback.print_exception(kind, value, trace)


class Watch:
    """Finds pyplot when it is imported, and makes its `show` keep what there is to see."""

    def __init__(self, charts_file: Any) -> None:
        self.charts_file = charts_file

    def find_spec(self, name: Any, path: Any = None, target: Any = None) -> Any:
        if name != "matplotlib.pyplot":
            return None
        sys.meta_path.remove(self)
        spec: Any = importlib.util.find_spec(name)
        if spec is not None:
            load = spec.loader.exec_module

            def load_and_watch(module: Any) -> None:
                load(module)
                module.show = lambda *_, **__: show(module, self.charts_file)

            spec.loader.exec_module = load_and_watch
        return spec


def show(pyplot: Any, charts_file: Any) -> None:
    """Keep every open figure, and close it as a window would be closed."""
    for number in pyplot.get_fignums():
        line = json.dumps(figure_chart(pyplot.figure(number)), allow_nan=False).encode() + b"\n"
        while line:
            line = line[os.write(charts_file, line) :]
    pyplot.close("all")


def figure_chart(figure: Any) -> Any:
    """A figure as a chart: its only axes, or all of them as the elements of a composite."""
    charts = [axes_chart(axes) for axes in figure.axes if axes.has_data() and not hasattr(axes, "_colorbar")]
    if len(charts) == 1:
        chart = charts[0]
    else:
        title = figure.get_suptitle() if hasattr(figure, "get_suptitle") else ""
        chart = {"type": "composite_chart", "title": title, "elements": charts}
    picture = io.BytesIO()
    figure.savefig(picture, format="png", bbox_inches="tight")
    chart["png"] = base64.b64encode(picture.getvalue()).decode()
    return chart


def axes_chart(axes: Any) -> Any:
    kind, elements = recognized(axes)
    chart = {"type": kind, "title": axes.get_title(), "elements": elements}
    if kind != "pie":
        chart.update(x_label=axes.get_xlabel(), y_label=axes.get_ylabel())
        chart.update(axis_scale("x", axes.xaxis))
        chart.update(axis_scale("y", axes.yaxis))
    return chart


def recognized(axes: Any) -> Any:
    """The type of chart that the axes hold, and its elements; `unknown` without elements for what we cannot tell."""
    kinds = (("pie", pie), ("bar", bars), ("box_and_whisker", boxes), ("scatter", scatter), ("line", lines))
    for kind, elements_of in kinds:
        elements = elements_of(axes)
        if elements:
            return kind, elements
    return "unknown", []


def pie(axes: Any) -> Any:
    from matplotlib.patches import Wedge  # type: ignore[import-not-found, unused-ignore]

    wedges = [patch for patch in axes.patches if isinstance(patch, Wedge)]
    return [
        {"label": str(wedge.get_label()), "angle": number(abs(wedge.theta2 - wedge.theta1)), "radius": number(wedge.r)}
        for wedge in wedges
    ]


def bars(axes: Any) -> Any:
    from matplotlib.container import BarContainer  # type: ignore[import-not-found, unused-ignore]

    elements = []
    for container in axes.containers:
        if not isinstance(container, BarContainer):
            continue
        upright = getattr(container, "orientation", "vertical") != "horizontal"
        axis = axes.xaxis if upright else axes.yaxis
        ticks = zip(axis.get_ticklocs(), axis.get_ticklabels())  # noqa: B905  # not before Python 3.10
        names = {number(place): text.get_text() for place, text in ticks}
        for bar in container:
            middle = number(bar.get_x() + bar.get_width() / 2 if upright else bar.get_y() + bar.get_height() / 2)
            value = number(bar.get_height() if upright else bar.get_width())
            label = names.get(middle) or f"{middle:g}"
            elements.append({"label": label, "group": str(container.get_label()), "value": value})
    return elements


def boxes(axes: Any) -> Any:
    """Box plots. A closed outline, filled or not, is a box; what crosses it or leaves it belongs to it."""
    outlines = [patch.get_path().vertices for patch in axes.patches if type(patch).__name__ == "PathPatch"]
    plain = [line.get_xydata() for line in axes.lines]
    outlines += [points for points in plain if len(points) == 5 and tuple(points[0]) == tuple(points[4])]
    labels = [text.get_text() for text in axes.get_xticklabels()]
    found = []
    for index, outline in enumerate(outlines):
        found.append(box_element(axes, *box_of(outline)))
        found[-1]["label"] = labels[index] if index < len(labels) else ""
    return found


def box_element(axes: Any, left: Any, right: Any, low: Any, high: Any) -> Any:
    middle = (left + right) / 2
    strokes = [points for points in (line.get_xydata() for line in axes.lines) if len(points) == 2]
    upright = [points for points in strokes if near(points[0][0], middle) and near(points[1][0], middle)]
    ends = [y for points in upright for _, y in points]
    level = [points for points in strokes if near(points[0][1], points[1][1]) and near(points[0][0], left)]
    medians = [points[0][1] for points in level if low <= points[0][1] <= high]
    dots = [point for line in axes.lines if line.get_linestyle() == "None" for point in line.get_xydata()]
    return {
        "min": number(min([*ends, low])),
        "first_quartile": number(low),
        "median": number(medians[0] if medians else (low + high) / 2),
        "third_quartile": number(high),
        "max": number(max([*ends, high])),
        "outliers": [number(y) for x, y in dots if near(x, middle)],
    }


def box_of(outline: Any) -> Any:
    across, up = [point[0] for point in outline[:4]], [point[1] for point in outline[:4]]
    return min(across), max(across), min(up), max(up)


def near(one: Any, other: Any) -> Any:
    return abs(one - other) <= 1e-6 * max(1.0, abs(one), abs(other))


def scatter(axes: Any) -> Any:
    from matplotlib.collections import PathCollection  # type: ignore[import-not-found, unused-ignore]

    found = [each for each in axes.collections if isinstance(each, PathCollection)]
    return [{"label": str(each.get_label()), "points": pairs(each.get_offsets())} for each in found]


def lines(axes: Any) -> Any:
    return [{"label": str(line.get_label()), "points": pairs(line.get_xydata())} for line in axes.lines]


def pairs(points: Any) -> Any:
    both = [[number(x), number(y)] for x, y in points]
    return [pair for pair in both if None not in pair]


def axis_scale(name: Any, axis: Any) -> Any:
    places = [number(place) for place in axis.get_ticklocs()]
    labels = [text.get_text() for text in axis.get_ticklabels()]
    scale = axis.get_scale()
    unit = type(getattr(axis, "get_converter", lambda: getattr(axis, "converter", None))()).__name__
    if "Date" in unit:
        scale = "datetime"
    elif "Category" in unit:
        scale = "categorical"
    return {
        name + "_ticks": [place for place in places if place is not None],
        name + "_tick_labels": labels,
        name + "_scale": scale,
    }


def number(value: Any) -> Any:
    """A finite float, or None for what is none."""
    value = float(value)
    return value if math.isfinite(value) else None
