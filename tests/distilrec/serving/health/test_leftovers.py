"""Which processes outlive their version."""

from distilrec.serving.health.leftovers import Leftovers, has_two_versions
from distilrec.serving.process.processes import ModelProcess

OLD, NEW = ModelProcess(11, 100, "student", 1), ModelProcess(12, 200, "student", 2)
AGAIN = ModelProcess(13, 300, "student", 1)
UNLOADING = {("student", 1)}


def test_processes_are_overdue_when_their_version_unloads_for_too_long():
    leftovers = Leftovers(limit_s=30)
    assert [leftovers.overdue({OLD, NEW}, UNLOADING, now) for now in (0.0, 30.0, 31.0)] == [set(), set(), {OLD}]


def test_a_version_that_is_loaded_again_keeps_its_new_processes():
    leftovers = Leftovers(limit_s=30)
    leftovers.overdue({OLD, NEW}, UNLOADING, 0.0)
    assert leftovers.overdue({OLD, NEW, AGAIN}, set(), 40.0) == {OLD}


def test_a_process_that_ended_is_forgotten():
    leftovers = Leftovers(limit_s=30)
    leftovers.overdue({OLD, NEW}, UNLOADING, 0.0)
    leftovers.overdue({NEW}, set(), 10.0)
    assert leftovers.overdue({OLD, NEW}, UNLOADING, 40.0) == set()


def test_only_a_model_with_two_versions_can_have_something_left_over():
    assert has_two_versions({OLD, NEW})
    assert not has_two_versions({OLD, AGAIN, ModelProcess(14, 1, "recommend", 2)})
