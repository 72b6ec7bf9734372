"""The page that a person reviews before a version is served: what changed, what was lost, and the same users side by side."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from distilrec.core.errors import DataError, DistilRecError
from distilrec.core.files import write_text
from distilrec.core.manifest import FILE_NAME, Manifest, read_manifest
from distilrec.core.specs import MODEL_NAME
from distilrec.data.vocabulary import Vocabulary
from distilrec.evaluation import ranking_record
from distilrec.evaluation.comparison import changed_ranks, compare_lists
from distilrec.evaluation.ranking import regressions
from distilrec.evaluation.ranking_record import load_record
from distilrec.evaluation.slices import head_items
from distilrec.serving.rollout.review_page import Section, Table, figures, render
from distilrec.serving.rollout.versus import FORMER, NEW, Version, Versus, compare_versions, data_of, head_and_tail, open_version
from export.artefact import REPORT_FILE
from export.repository.versions import DRIFT_FILE, review_path

_LISTED_ITEMS = 20
_SHOWN_USERS = 5
_SHOWN_HISTORY = 5


@dataclass(frozen=True)
class Staged:
    """A staged version, and the one that it is to replace, or to be served next to."""

    artefact: Path
    manifest: Manifest
    repository: Path
    number: int
    former: int
    as_candidate: bool


def write_review(staged: Staged) -> Path:
    """Write the page of a staged version into the repository's root.

    What cannot be compared is said on the page and stops nothing.

    Returns:
        Path of the page.
    """
    number, former = staged.number, staged.former
    verdicts = list(_verdicts(staged))
    forgetting = [found for found in verdicts if _is_of_update(found[0])]
    sections = [
        Section(
            "Forgetting", *_stated(forgetting, "This export states no verdict on forgetting: it was not made by distilrec update.")
        ),
        *_compared(staged),
        _drift(staged.repository),
        Section("Other verdicts", *_stated([found for found in verdicts if found not in forgetting], "The export states none.")),
    ]
    commands = [f'distilrec approve {number} --by NAME --note "..."', f'distilrec reject {number} --by NAME --note "..."']
    goal = "to be served next to" if staged.as_candidate else "to take the place of"
    path = review_path(staged.repository, number)
    write_text(path, render(f"Version {number} waits for approval: {goal} version {former}", commands, sections))
    return path


def _compared(staged: Staged) -> Iterator[Section]:
    """Sections that need both models."""
    try:
        former, new = (open_version(staged.repository, number) for number in (staged.former, staged.number))
        yield _changes(staged, former, new)
        data = data_of(staged.artefact, staged.manifest)
        if data is None:
            raise DataError("found no data folder of this run next to the export, expected one to compare both versions by")
        versus = compare_versions(former, new, data)
    except (DistilRecError, OSError) as error:
        yield Section("Slices that lost", [f"Not compared: {error}."])
        return
    yield _slices(versus)
    yield _lists(versus, new.vocabulary)
    yield _side_by_side(versus, new.vocabulary)


def _changes(staged: Staged, former: Version, new: Version) -> Section:
    added = [item for item in new.vocabulary.item_ids if item not in former.vocabulary]
    retired = sorted(new.vocabulary.retired - former.vocabulary.retired)
    records = [
        load_record(staged.repository / MODEL_NAME / str(number) / ranking_record.FILE_NAME)
        for number in (staged.former, staged.number)
    ]
    same = None not in records and len({record.held_out_sha256 for record in records if record}) == 1
    rows = [
        ("items", former.spec.item_count, new.spec.item_count),
        (
            "history_length, exclude_length, top_k",
            *(f"{s.history_length}, {s.exclude_length}, {s.top_k}" for s in (former.spec, new.spec)),
        ),
        ("vocabulary", former.vocabulary.sha256[:12], new.vocabulary.sha256[:12]),
        ("ranking on its validation users", *(str(record or "not recorded") for record in records)),
    ]
    sentences = [
        f"Precision {staged.manifest.metrics['precision']}, export {staged.manifest.digest[:12]}.",
        f"{len(added):,} item(s) are new, and {len(retired):,} are retired.",
    ]
    if not same:
        sentences.append("The two rankings are of other users, items or right answers, so they cannot be compared.")
    titles = [Table((head,), [(f"{item}  {new.vocabulary.title(item)}",) for item in ids[:_LISTED_ITEMS]])
              for head, ids in (("new items", added), ("retired items", retired))]  # fmt: skip
    return Section("What changed", sentences, [Table(("", f"version {staged.former}", f"version {staged.number}"), rows), *titles])


def _slices(versus: Versus) -> Section:
    evaluation, metric = versus.evaluation, versus.evaluation.primary
    groups = {"all users": evaluation.everybody} | evaluation.slices
    rows, bad = [], set()
    for place, (name, group) in enumerate(groups.items()):
        difference = group.differences[FORMER][NEW][metric]
        means = [group.estimates[model][metric].mean for model in (FORMER, NEW)]
        rows.append((name, group.users, *means, difference.mean, f"{difference.low:+.4f} to {difference.high:+.4f}"))
        if difference.high < 0:
            bad.add(place)
    lost = regressions(evaluation, NEW, FORMER)
    clear = [regression.slice for regression in lost if regression.clear]
    said = f"clearly lost: {', '.join(clear)}" if clear else "no slice has clearly lost (the whole interval below 0)"
    sentence = (
        f"{len(lost)} of {len(evaluation.slices)} slices have a lower {metric}; {said}. Validation users of the new version's data."
    )
    return Section("Slices that lost", [sentence], [
        Table(("slice", "users", "served", "new", "difference", "95 % interval, paired by user"), rows, frozenset(bad)),
    ])  # fmt: skip


def _lists(versus: Versus, vocabulary: Vocabulary) -> Section:
    found = compare_lists(versus.former, versus.new, head_and_tail(versus.counts, head_items(versus.counts)))
    tau = "none has two items in common" if found.rank_correlation is None else f"{found.rank_correlation:.3f}"
    sentence = (
        f"Of the first {found.k} items, {found.overlap:.1%} stay; {found.identical:.1%} of {found.requests:,} users see no change."
        f" Rank correlation (Kendall's tau) of the items that stay: {tau}."
    )
    listed = [
        Table(
            (head, "users"), [(f"{vocabulary.item_ids[item - 1]}  {vocabulary.titles[item - 1]}", times) for item, times in items]
        )
        for head, items in (("shown to nobody before", found.newly_shown), ("shown to nobody now", found.lost))
    ]
    exposure = [(name, *shares, shares[1] - shares[0]) for name, shares in found.exposure.items()]
    return Section("What users would see", [sentence], [Table(("share of exposure", "served", "new", "change"), exposure), *listed])


def _side_by_side(versus: Versus, vocabulary: Vocabulary) -> Section:
    changed = changed_ranks(versus.former, versus.new)
    users = np.argsort(-changed.sum(axis=1), kind="stable")
    chosen = users[np.linspace(0, len(users) - 1, min(_SHOWN_USERS, len(users))).astype(int)]

    def title(item: int) -> str:
        return vocabulary.titles[item - 1] if item else ""

    tables = []
    for user in chosen.tolist():
        seen = [title(item) for item in versus.history[user][versus.history[user] != 0][-_SHOWN_HISTORY:].tolist()]
        rows = [
            (rank + 1, title(former), title(new), "new" if changed[user, rank] else "")
            for rank, (former, new) in enumerate(zip(versus.former[user].tolist(), versus.new[user].tolist(), strict=True))
        ]
        tables.append(Table(("after " + ", ".join(seen), "served", "new", ""), rows))
    return Section("Side by side", ["From the user whose list changes most to the one whose list changes least."], tables)


def _drift(repository: Path) -> Section:
    try:
        found = json.loads((repository / DRIFT_FILE).read_text(encoding="utf-8"))
        return Section(
            "Drift of live requests", [str(found["reason"])], [figures({k: v for k, v in found.items() if k != "reason"})]
        )
    except FileNotFoundError:
        return Section("Drift of live requests", ["Not measured: distilrec drift has not been run for this repository."])
    except (OSError, ValueError, KeyError, TypeError) as error:
        return Section(
            "Drift of live requests", [f"{repository / DRIFT_FILE} cannot be read ({error!r}). Run distilrec drift again."]
        )


def _verdicts(staged: Staged) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """All that states a reason: in the export's report and manifest, and in the manifests of stages next to it."""
    seen: set[str] = set()
    for name, source in _sources(staged):
        for place, verdict in _with_reason(source, name):
            if verdict["reason"] and verdict["reason"] not in seen:
                seen.add(verdict["reason"])
                yield place, verdict


def _sources(staged: Staged) -> Iterator[tuple[str, Any]]:
    try:
        yield "", json.loads((staged.artefact / REPORT_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):  # an export of an earlier version, or of another hand
        yield "", {}
    yield "export", dict(staged.manifest.metrics)
    for path in sorted(staged.artefact.absolute().parent.glob(f"*/{FILE_NAME}")):
        try:
            manifest = read_manifest(path.parent)
        except DistilRecError:
            continue
        if manifest.digest in staged.manifest.inputs.values():
            yield manifest.stage, dict(manifest.metrics)


def _with_reason(value: Any, name: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    if not isinstance(value, Mapping):
        return
    if isinstance(value.get("reason"), str):
        yield name, value
        return
    for key, part in value.items():
        yield from _with_reason(part, f"{name}.{key}" if name else str(key))


def _is_of_update(name: str) -> bool:
    return any(word in name for word in ("forget", "update"))


def _stated(verdicts: list[tuple[str, Mapping[str, Any]]], otherwise: str) -> tuple[list[str], list[Table]]:
    """A sentence for each verdict, and a table of its figures."""
    sentences = [f"{name or 'verdict'}: {found['reason']}" for name, found in verdicts] or [otherwise]
    return sentences, [figures({k: v for k, v in found.items() if k != "reason"}) for _, found in verdicts]
