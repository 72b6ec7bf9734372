#!/bin/sh
# Builds the student's TensorRT plans with the TensorRT of the container that will serve them, on this machine's GPU, measures
# them there, and fills the model repository. A plan runs only with the version that built it, and on the GPU that it was timed on.
#   deploy/export-in-container.sh 26.05 --preset shop.toml
# Run it where the folder runs/ is, after `distilrec run`. It needs Docker with NVIDIA's container toolkit.
# Written from NVIDIA's documents; not run on a GPU yet.
set -eu

if [ $# -lt 1 ]; then
    echo "usage: $0 RELEASE [options of distilrec export], for example: $0 26.05 --preset shop.toml" >&2
    exit 2
fi
release=$1
shift
source=$(cd "$(dirname "$0")/.." && pwd)
image=distilrec-plans:$release

docker build --file "$source/deploy/Dockerfile.ngc" --target plans --build-arg "TRITON_RELEASE=$release" --tag "$image" "$source"
# The same path inside as outside, and the same user: the stages before this one are found, and what is written belongs to you.
exec docker run --rm --gpus=all --ipc=host --user "$(id -u):$(id -g)" --env HOME=/tmp \
    --volume "$PWD:$PWD" --workdir "$PWD" "$image" \
    distilrec export --target tensorrt --container "$release" "$@"
