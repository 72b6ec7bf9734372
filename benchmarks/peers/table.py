"""The comparison as a table; pure."""

from typing import Any


def markdown_table(result: dict[str, Any]) -> str:
    """A row for each contender: milliseconds for one request, and how many times the reference's; or why it was not measured."""
    lines = [f"| one request, one thread, {result['model']['item_count']:,} items | ms | times the student |", "|---|---|---|"]
    for name, row in result["contenders"].items():
        if "not_measured" in row:
            lines.append(f"| {name} | not measured | {' '.join(row['not_measured'].split()).replace('|', '/')} |")
            continue
        spread = "" if name == result["reference"] else f" ({row['ratio_p10']:.2f} to {row['ratio_p90']:.2f})"
        lines.append(f"| {name} | {row['seconds_per_request'] * 1000:.3f} | {row['ratio']:.2f}{spread} |")
    if "all_scores_to_top_k_over_the_wire" in result:
        ratio = result["all_scores_to_top_k_over_the_wire"]
        lines += ["", f"All scores over the wire, top K in the client: {ratio:.2f} times the time of top K in the graph."]
    if result["server_fault"]:
        lines += ["", f"Nothing was measured over the wire: {result['server_fault']}"]
    return "\n".join(lines)
