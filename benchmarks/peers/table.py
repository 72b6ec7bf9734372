"""The comparison as a table; pure."""

from typing import Any

from distilrec.core.tables import markdown_table


def peers_table(result: dict[str, Any]) -> str:
    """A row for each contender: milliseconds for one request, and how many times the reference's; or why it was not measured."""
    headings = [f"one request, one thread, {result['model']['item_count']:,} items", "ms", "times the student"]
    rows = []
    for name, row in result["contenders"].items():
        if "not_measured" in row:
            rows.append([name, "not measured", " ".join(row["not_measured"].split()).replace("|", "/")])
            continue
        spread = "" if name == result["reference"] else f" ({row['ratio_p10']:.2f} to {row['ratio_p90']:.2f})"
        rows.append([name, f"{row['seconds_per_request'] * 1000:.3f}", f"{row['ratio']:.2f}{spread}"])
    parts = [markdown_table(headings, rows, "|---|---|---|")]
    if "all_scores_to_top_k_over_the_wire" in result:
        ratio = result["all_scores_to_top_k_over_the_wire"]
        parts.append(f"All scores over the wire, top K in the client: {ratio:.2f} times the time of top K in the graph.")
    if result["server_fault"]:
        parts.append(f"Nothing was measured over the wire: {result['server_fault']}")
    return "\n\n".join(parts)
