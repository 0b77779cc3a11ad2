"""The component `compare_models`."""

from typing import NamedTuple

from kfp import dsl
from kfp.dsl import HTML, Dataset, Input, Metrics, Output

from components.image import COMPONENT_IMAGE


@dsl.component(base_image=COMPONENT_IMAGE, install_kfp_package=False)
def compare_models(
    candidate: Input[Dataset],
    champion: Input[Dataset],
    decision: Output[Metrics],
    report: Output[HTML],
    metric: str = "macro_f1",
    minimum: float = 0.0,
    minimum_gain: float = 0.0,
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
    output_uri: str = "",
) -> NamedTuple("Outputs", [("blessed", bool), ("reason", str)]):  # type: ignore[valid-type]
    """Decides whether a candidate is so much better than the champion that it takes its place.

    Args:
        candidate: The candidate's predictions, as evaluate_classifier writes them.
        champion: The champion's predictions of the same rows; without rows when there is no champion yet.
        decision: The two values, the gain and its interval; the file is the decision as JSON.
        report: A page with the gain's distribution, the labels one by one, and rows that only one model gets right.
        metric: What decides: `accuracy`, `macro_f1`, `weighted_f1`, `macro_recall`, `macro_precision`, `log_loss`, or
            of one label `f1:<label>`, `recall:<label>`, `precision:<label>`. Only of the log loss less is better.
        minimum: The worst value a candidate may have (for the log loss, the highest); 0 allows any.
        minimum_gain: The gain must be more than this.
        confidence: The level of the interval whose lower end must be above `minimum_gain`; 0 takes the gain as it is.
        resamples: How many times the rows are drawn again.
        seed: The same seed gives the same decision.
        output_uri: The folder or `gs://` prefix that gets `decision.json`; '' for none.

    Returns:
        Whether the candidate is blessed, and one sentence why.
    """
    from components.evaluation.compare_models.compare import compare, write_comparison
    from components.evaluation.compare_models.decide import Rules

    # A browser and Cloud Storage tell a page by its name; without the ending they show its source.
    report.path += ".html"
    # Metadata that went through a pipeline's parameter is text.
    absent = str(champion.metadata.get("absent")).lower() == "true"
    comparison = compare(
        candidate.path,
        champion.path,
        Rules(metric, minimum, minimum_gain, confidence, resamples),
        seed=seed,
        candidate_labels=candidate.metadata.get("labels", []),
        champion_labels=champion.metadata.get("labels", []),
        champion_absent=absent,
    )
    decision.metadata.update(comparison.metrics)
    write_comparison(comparison, decision.path, report.path, output_uri)
    return comparison.verdict.blessed, comparison.verdict.reason
