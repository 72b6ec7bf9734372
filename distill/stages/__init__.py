"""The stages that train: text, teachers, soft targets, students."""
