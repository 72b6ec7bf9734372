"""The preset of the benchmarks."""

from pathlib import Path

from distilrec.config import load_config

ROOT = Path(__file__).parents[2]


def test_run_with_a_text_teacher_is_the_demos_own_otherwise():
    demo, found = load_config("ml-100k"), load_config(str(ROOT / "benchmarks" / "ml-100k-text.toml"))
    assert set(found.teachers) - set(demo.teachers) == {"text"}
    assert found.student_teachers == demo.student_teachers
    alike = {"name": demo.name, "teachers": demo.teachers, "targets": demo.targets}
    assert found.model_copy(update=alike) == demo
    assert {name: found.teachers[name] for name in demo.teachers} == demo.teachers
    assert found.targets == demo.targets
