import pytest

from distilrec.core.specs import Head, Precision
from distilrec.evaluation.bootstrap import Difference
from distilrec.evaluation.contract import Agreement
from distilrec.evaluation.verdict import (
    HeadMeasurement,
    PrecisionMeasurement,
    StudentComparison,
    budget_faults,
    choose_head,
    choose_precision,
    choose_student,
    forced_head,
    forced_student,
)

INT8, FP16, FP32 = Precision.INT8, Precision.FP16, Precision.FP32


def measured(precision, p50_ms, loss=0.0, overlap=1.0):
    return PrecisionMeasurement(precision, p50_ms, Agreement(0.1, loss, overlap, overlap, 0.0))


@pytest.mark.parametrize(
    ("candidates", "shipped", "reasons"),
    [
        ([measured(INT8, 1), measured(FP16, 3), measured(FP32, 2)], INT8, ["int8 ships: 2.00x as fast as fp32"]),
        ([measured(INT8, 1.95), measured(FP16, 3), measured(FP32, 2)], FP32, ["not int8: 1.950 ms", "not fp16: 3.000 ms"]),
        ([measured(INT8, 1, loss=0.006), measured(FP16, 1), measured(FP32, 2)], FP16, ["0.60% of NDCG@10", "fp16 ships"]),
        ([measured(INT8, 1, overlap=0.94), measured(FP32, 2)], FP32, ["keeps 0.940 of the top 10"]),
        ([measured(INT8, 1.5), measured(FP16, 1), measured(FP32, 2)], FP16, ["not faster than fp16 with 1.000 ms"]),
        ([measured(INT8, 3, overlap=0.5), measured(FP32, 2)], FP32, ["0.500 of the top 10", " and 3.000 ms"]),
        ([measured(FP32, 2)], FP32, ["fp32 ships"]),
    ],
)
def test_smallest_that_is_faster_and_keeps_the_ranking_ships(candidates, shipped, reasons):
    verdict = choose_precision(candidates)
    assert verdict.choice is shipped
    assert all(reason in verdict.reason for reason in reasons)
    assert "\n" not in verdict.reason


def test_budget_is_met_at_its_edge():
    assert not budget_faults(Agreement(0.1, 0.005, 0.95, 0.9, 1.0))
    assert len(budget_faults(Agreement(0.1, 0.0051, 0.9499, 0.9, 1.0))) == 2


@pytest.mark.parametrize(
    ("p50_ms", "loss", "overlap", "shipped", "reason"),
    [
        (1, 0.005, 0.97, Head.APPROXIMATE, "the approximate head ships: 4.00x as fast as the exhaustive one, keeps 0.970"),
        (
            3.9,
            0,
            1,
            Head.EXHAUSTIVE,
            "not the approximate head: 3.900 ms a request is not faster than the exhaustive one with 4.000",
        ),
        (1, 0, 0.969, Head.EXHAUSTIVE, "keeps 0.969 of the top 10 (at least 0.97)"),
        (1, 0.0051, 1, Head.EXHAUSTIVE, "loses 0.51% of NDCG@10"),
    ],
)
def test_head_ships_that_is_faster_and_keeps_the_ranking(p50_ms, loss, overlap, shipped, reason):
    verdict = choose_head(HeadMeasurement(p50_ms, 4.0, Agreement(0.1, loss, overlap, overlap, 0.0)))
    assert verdict.choice is shipped
    assert reason in verdict.reason
    forced = forced_head(HeadMeasurement(p50_ms, 4.0, Agreement(0.1, loss, overlap, overlap, 0.0)))
    assert forced.choice is Head.APPROXIMATE
    assert forced.reason.startswith("WARNING") is (shipped is Head.EXHAUSTIVE)


def test_figures_that_are_no_numbers_never_ship():
    nan = float("nan")
    assert len(budget_faults(Agreement(nan, nan, nan, nan, nan))) == 2


def compared(distilled, undistilled, low, high):
    return StudentComparison(1200, distilled, undistilled, Difference(distilled - undistilled, low, high, None, None, None))


TOO_FEW = ", but these users are too few to tell this from no difference"


@pytest.mark.parametrize(
    ("figures", "shipped", "reason"),
    [
        (
            (0.13, 0.11, 0.01, 0.03),
            "distilled",
            "a difference of +0.0200 (95 % interval, paired by user: +0.0100 to +0.0300); the distilled",
        ),
        ((0.13, 0.11, 0.01, 0.03), "distilled", "student ranks clearly better"),
        ((0.12, 0.11, -0.01, 0.03), "distilled", f"student ranks better{TOO_FEW}"),
        ((0.11, 0.11, -0.01, 0.01), "distilled", "student ranks equally well"),
        ((0.11, 0.12, -0.03, 0.01), "undistilled", f"student ranks worse{TOO_FEW}"),
        (
            (0.04, 0.06, -0.03, -0.01),
            "undistilled",
            "not the distilled student: on 1,200 validation users the distilled student's NDCG@10",
        ),
        ((0.04, 0.06, -0.03, -0.01), "undistilled", "is 0.0400 and the undistilled student's 0.0600"),
        ((0.04, 0.06, -0.03, -0.01), "undistilled", "student ranks clearly worse"),
    ],
)
def test_the_distilled_student_ships_unless_the_other_ranks_better(figures, shipped, reason):
    verdict = choose_student(compared(*figures))
    assert verdict.choice == shipped
    assert verdict.reason.startswith(f"the {shipped} student")
    assert reason in verdict.reason
    assert "\n" not in verdict.reason


@pytest.mark.parametrize(("wanted", "warns"), [("distilled", True), ("undistilled", False)])
def test_a_forced_student_ships_with_a_warning_where_it_ranks_worse(wanted, warns):
    verdict = forced_student(wanted, compared(0.04, 0.06, -0.03, -0.01))
    assert verdict.choice == wanted
    assert verdict.reason.startswith("WARNING, the student that ranks worse ships: ") == warns
    assert "the settings ask for it; on 1,200 validation users" in verdict.reason
