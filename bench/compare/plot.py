"""Medians as a picture: a panel for each piece of work, a bar for each arm. Needs matplotlib."""

from pathlib import Path

from .table import duration


def save_bars(path: Path, title: str, times: dict[str, dict[str, float]], colours: dict[str, str]) -> None:
    """`times`: seconds by panel and arm; `colours`: of the arms that are not grey. The shortest bar is on top."""
    import matplotlib

    matplotlib.use("svg")
    # The same data give the same file.
    matplotlib.rcParams["svg.hashsalt"] = title
    from matplotlib import pyplot

    columns = min(3, len(times))
    rows = -(-len(times) // columns)
    counts = [len(arms) for arms in times.values()]
    # Bars in each row of panels, so that all bars can be of one thickness; 3 more for a panel's title.
    tallest = [max(counts[row * columns : (row + 1) * columns]) for row in range(rows)]
    figure, axes = pyplot.subplots(
        rows,
        columns,
        squeeze=False,
        figsize=(4.6 * columns, 0.25 * sum(count + 3 for count in tallest) + 0.4),
        height_ratios=[count + 3 for count in tallest],
        layout="constrained",
    )
    for number, (panel, (name, arms)) in enumerate(zip(axes.flat, times.items(), strict=False)):
        ordered = sorted(arms.items(), key=lambda item: item[1], reverse=True)
        names, seconds = [arm for arm, _ in ordered], [value for _, value in ordered]
        bars = panel.barh(names, seconds, color=[colours.get(arm, "#b0b4ba") for arm in names])
        panel.bar_label(bars, [duration(value) for value in seconds], padding=3, fontsize=8)
        panel.set_title(name, fontsize=9, loc="left")
        panel.set_ylim(len(arms) - tallest[number // columns] - 0.5, len(arms) - 0.5)
        # Room for the figures beside the bars; they stand for the axis.
        panel.set_xlim(0, max(seconds) * 1.25)
        panel.set_xticks([])
        panel.tick_params(axis="y", length=0, labelsize=8)
        panel.spines[["top", "right", "bottom", "left"]].set_visible(False)
    for panel in list(axes.flat)[len(times) :]:
        panel.set_visible(False)
    figure.suptitle(title, fontsize=11, x=0.01, ha="left")
    figure.savefig(path, metadata={"Date": None})
