"""The comparison with peers as a Markdown table."""

from typing import Any

from distilrec.core.tables import markdown_table


def peers_table(comparison: dict[str, Any]) -> str:
    """Show the milliseconds of a request to each contender and their ratio to the reference, or why it was not measured.

    Args:
        comparison: Content of peers.json.
    """
    headings = [f"one request, one thread, {comparison['model']['item_count']:,} items", "ms", "times the student"]
    rows = []
    for name, row in comparison["contenders"].items():
        if "not_measured" in row:
            rows.append([name, "not measured", " ".join(row["not_measured"].split()).replace("|", "/")])
            continue
        spread = "" if name == comparison["reference"] else f" ({row['ratio_p10']:.2f} to {row['ratio_p90']:.2f})"
        rows.append([name, f"{row['seconds_per_request'] * 1000:.3f}", f"{row['ratio']:.2f}{spread}"])
    parts = [markdown_table(headings, rows, "|---|---|---|")]
    if "all_scores_to_top_k_over_the_wire" in comparison:
        ratio = comparison["all_scores_to_top_k_over_the_wire"]
        parts.append(f"All scores over the wire, top K in the client: {ratio:.2f} times the time of top K in the graph.")
    if comparison["server_fault"]:
        parts.append(f"Nothing was measured over the wire: {comparison['server_fault']}")
    return "\n\n".join(parts)
