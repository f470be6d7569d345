"""Metric names in words."""

from clep.view.report.names import in_words


def test_a_metric_in_words() -> None:
    assert in_words("val/retrieval/t2v/r1") == "Held-out retrieval text → video R@1"


def test_no_line_breaks_before_the_number_of_top_1() -> None:
    assert in_words("zeroshot/kinetics/top1") == "Zero-shot Kinetics top\N{NON-BREAKING HYPHEN}1"
    assert in_words("egtea/top5") == "EGTEA top\N{NON-BREAKING HYPHEN}5"
