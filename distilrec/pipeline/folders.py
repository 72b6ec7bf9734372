"""Names of the folders of a run."""

from pathlib import Path

from distilrec.config import Config, StudentName

TEACHERS_VERDICT = "teachers-verdict"
"""Folder of the stage that judges the teachers."""

MIXED_TARGETS = "mixed-targets"
"""Folder of their soft targets, mixed with the weights that this stage found."""

STUDENT_FOLDERS: dict[StudentName, str] = {"undistilled": "student-undistilled", "distilled": "student"}
"""Stage folder of each student."""

STUDENT_VERDICT = "student-verdict"
"""Stage folder of the choice between the students."""

REFRESHED_DATA, REFRESHED_TEXT = "refreshed-data", "refreshed-text"
REFRESHED_STUDENT, REFRESHED_EXPORT = "refreshed-student", "refreshed-export"
"""Stage folders of a refresh: a run's catalogue, the embeddings of its texts, its student and its export as they are now."""


def run_dir(config: Config) -> Path:
    """Folder that holds the stage folders of a run."""
    return Path("runs") / config.name


def teacher_folders(config: Config) -> dict[str, Path]:
    """Folder of each teacher by its name."""
    return {name: run_dir(config) / f"teacher-{name}" for name in config.teachers}
