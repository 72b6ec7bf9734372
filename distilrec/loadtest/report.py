"""A load's results as text; pure functions."""

from typing import Any

from distilrec.loadtest.statistics import QUANTILES, answers_needed, field


def describe(result: dict[str, Any]) -> str:
    """Return the results of ``distilrec load`` as text for a terminal."""
    model, settings = result["model"], result["settings"]
    served = f"model {model['name']!r} version {model['version']}, {model['item_count']:,} items"
    head = f"{served}; {settings['processes']} client process(es)"
    body = describe_search(result["search"]) if "search" in result else describe_load(result["result"])
    shared = ["server and clients share this machine's processors"] if result["server"]["on_this_machine"] else []
    stopped = ["interrupted: this is what was measured until then"] if result["interrupted"] else []
    return "\n".join([head, *body, *shared, *stopped])


def describe_load(load: dict[str, Any]) -> list[str]:
    """Return lines about one load."""
    requests = load["requests"]
    wanted = "closed loop" if load["rate_per_s"] is None else f"{load['rate_per_s']:,.1f} requests/s wanted"
    errors = ", ".join(f"{count} {kind}" for kind, count in load["errors"].items()) or "none"
    quantiles = [f"{name} {_ms(name, load['latency'][field(name)])}" for name in QUANTILES]
    return [
        f"{wanted}, {load['achieved_rate_per_s']:,.1f}/s answered: {requests['answered']} of {requests['due']}; errors: {errors}",
        f"latency from the {load['latency_from']}: {', '.join(quantiles)}",
        f"client {'IS THE BOTTLENECK' if load['client_bottleneck'] else 'kept up'}: {load['client_bottleneck_reason']}",
    ]


def describe_search(search: dict[str, Any]) -> list[str]:
    """Return lines about a search: each probe, and the highest rate."""
    name = search["slo"].partition("<")[0]
    lines = []
    for load in search["probes"]:
        seen = _ms(name, load["latency"][field(name)])
        mark = "holds" if load["slo_held"] else "fails"
        failed = f", {load['requests']['failed']} failed" if load["requests"]["failed"] else ""
        client = ", client is the bottleneck" if load["client_bottleneck"] else ""
        lines.append(f"{load['rate_per_s']:10,.1f} requests/s  {mark}  {name} {seen}{failed}{client}")
    held, failed_at = search["highest_rate_held_per_s"], search["lowest_rate_failed_per_s"]
    if held is None:
        return [*lines, f"no rate that was tried holds {search['slo']}"]
    bound = "none that was tried failed" if failed_at is None else f"{failed_at:,.1f} requests/s failed"
    limit = "; the clients were the limit there, the server may hold more" if search["limited_by_client"] else ""
    return [*lines, f"highest rate that holds {search['slo']}: {held:,.1f} requests/s ({bound}{limit})"]


def _ms(name: str, value: float | None) -> str:
    return f"unknown (fewer than {answers_needed(QUANTILES[name]):,} answers)" if value is None else f"{value:.2f} ms"
