import pytest

from distilrec.core.specs import Precision
from distilrec.evaluation.contract import Agreement
from distilrec.evaluation.verdict import PrecisionMeasurement, budget_faults, choose_precision

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


def test_figures_that_are_no_numbers_never_ship():
    nan = float("nan")
    assert len(budget_faults(Agreement(nan, nan, nan, nan, nan))) == 2
