#!/bin/bash
# Start a recipe on several machines: run this same line on each of them.
#   MAIN=HOST:PORT NODES=2 PROCESSES=4 recipes/launch/torchrun.sh recipes/waterbirds.py --dataset_name grodino/waterbirds
# MAIN is a port of one of the machines that the others reach, PROCESSES the number of GPUs of each.
set -euo pipefail
: "${MAIN:?MAIN=HOST:PORT, where the machines meet}"
exec torchrun --nnodes "${NODES:-1}" --nproc_per_node "${PROCESSES:-1}" --rdzv_backend c10d --rdzv_endpoint "$MAIN" \
  --rdzv_id "${RUN_ID:-gerne}" "$@"
