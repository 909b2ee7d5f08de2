#!/bin/bash
#SBATCH --job-name=gerne
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=32
#SBATCH --time=12:00:00
# Submit a recipe:
#   sbatch recipes/launch/slurm.sh recipes/waterbirds.py --dataset_name grodino/waterbirds --output_dir outputs/waterbirds
set -euo pipefail
host=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
export MAIN="$host:$((20000 + SLURM_JOB_ID % 20000))" NODES="$SLURM_NNODES" PROCESSES="$SLURM_GPUS_ON_NODE"
export RUN_ID="$SLURM_JOB_ID" OMP_NUM_THREADS="${OMP_NUM_THREADS:-$((SLURM_CPUS_PER_TASK / PROCESSES))}"
# One launcher a node. When one ends with an error the others must not wait for it.
srun --kill-on-bad-exit=1 bash "${GERNE_RECIPES:-recipes}/launch/torchrun.sh" "$@"
