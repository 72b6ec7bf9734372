#!/bin/sh
# Every night: yesterday's events and today's items into the served model. A step that fails ends the night with its status; the
# version that serves goes on serving, and the next night takes up the work where it was left (OPERATIONS.md, "Every night").
#   deploy/nightly/nightly.sh shop.toml
# Run it where the folder runs/ is, on the machine of the server. From the environment:
#   EVENTS    file or folder with the events since the last update; without it, nothing is learned
#   ITEMS     file with all items as they are now; without it, the catalogue stays
#   REQUESTS  folder of recorded requests; without it, drift is not measured
#   URL       host and port of the server's gRPC endpoint
#   REPOSITORY  export.repository of the settings, where it is not triton_repo
#   OFFLINE=1 where no server runs on the repository: new versions are only pinned
set -eu

if [ $# -ne 1 ]; then
    echo "usage: $0 SETTINGS.toml" >&2
    exit 2
fi
preset=$1
server=${OFFLINE:+--offline}
server=${server:---url=${URL:-127.0.0.1:8001}}

# Two nights at once would work on the same run: the second ends with status 75.
if [ "${NIGHTLY_LOCKED:-}" != 1 ]; then
    exec env NIGHTLY_LOCKED=1 flock --nonblock --conflict-exit-code 75 "$preset" "$0" "$preset"
fi

step=start
log=$(mktemp)
trap 'status=$?; rm -f "$log"; [ "$status" = 0 ] || echo "nightly: step $step failed with status $status; the former version serves on" >&2' EXIT
run() {
    step=$1
    echo "nightly: $*"
    distilrec "$@"
}

# First, so that the review page of tonight's version shows it. No requests yet is no reason not to update.
if [ -n "${REQUESTS:-}" ]; then
    run drift --preset "$preset" --requests "$REQUESTS" || echo "nightly: drift was not measured" >&2
fi
if [ -n "${ITEMS:-}" ]; then
    run refresh --preset "$preset" --items "$ITEMS" "$server"
fi
if [ -n "${EVENTS:-}" ]; then
    run update --preset "$preset" --interactions "$EVENTS" >"$log" || { status=$?; cat "$log"; exit "$status"; }
    cat "$log"
    artefact=$(sed -n 's/^export: //p' "$log")
    step="update (it named no export)"
    [ -n "$artefact" ] || exit 1
    run promote "$artefact" --preset "$preset" ${REPOSITORY:+"--repository=$REPOSITORY"} "$server"
fi
echo "nightly: done"
