"""The demo's picture: MRR@5 by language and model."""

from collections.abc import Sequence
from pathlib import Path

from embedscale.cli.results import language
from embedscale.v1 import evaluation_service_pb2 as pb

_LANGUAGES = {"en": "English", "fr": "French", "cs": "Czech", "hu": "Hungarian", "ko": "Korean"}
_COLOURS = ("#4c72b0", "#dd8452", "#55a868", "#c44e52")


def draw_scores(evaluations: Sequence[pb.Evaluation], path: Path) -> None:
    """Write a PNG of grouped bars with 95 % intervals."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    models = list(dict.fromkeys(one.spec.model for one in evaluations))
    languages = list(dict.fromkeys(language(one) for one in evaluations))
    figure, axes = plt.subplots(figsize=(8, 4.2), dpi=150, layout="constrained")
    width = 0.8 / len(models)
    for place, model in enumerate(models):
        metrics = [_mrr(evaluations, model, name) for name in languages]
        values = [metric.value for metric in metrics]
        errors = [[m.value - m.lower for m in metrics], [m.upper - m.value for m in metrics]]
        spots = [i + (place - (len(models) - 1) / 2) * width for i in range(len(languages))]
        bars = axes.bar(spots, values, width * 0.94, yerr=errors, capsize=3, label=model, color=_COLOURS[place % 4],
                        error_kw={"elinewidth": 1, "ecolor": "#333333"})  # fmt: skip
        axes.bar_label(bars, [f"{value:.2f}" for value in values], padding=2, color="#333333", fontsize=9)
    axes.set_xticks(range(len(languages)), [_LANGUAGES.get(name, name) for name in languages])
    axes.set(ylabel="MRR@5", ylim=(0, 1), title="Which model finds the answer? Residents' handbook of Velmar")
    axes.spines[["top", "right"]].set_visible(False)
    axes.yaxis.grid(visible=True, color="#dddddd")
    axes.set_axisbelow(True)
    axes.legend(frameon=False, ncols=len(models), loc="upper right")
    axes.set_xlabel("bars: mean over 96 questions; whiskers: 95 % interval, bootstrap over passages", fontsize=8)
    figure.savefig(path)
    plt.close(figure)


def _mrr(evaluations: Sequence[pb.Evaluation], model: str, name: str) -> pb.Metric:
    found = next(one for one in evaluations if one.spec.model == model and language(one) == name)
    return next(metric for metric in found.result.metrics if metric.name == "mrr")
