#!/usr/bin/env bash
# Sweep @{name} on @{nodes} nodes:  sbatch THIS_FILE.  Submitted again after its time limit, the sweep goes on.
#SBATCH --job-name=@{name}
#SBATCH --nodes=@{nodes}
#SBATCH --ntasks-per-node=1
#SBATCH --exclusive
#SBATCH --cpus-per-task=@{cpus}
#SBATCH --mem=@{memory_gib}G
#SBATCH --time=@{time}
@{slurm_options}set -euo pipefail
export RAY_AUTH_MODE=token
# a token for this job alone, in a file on shared storage that only its owner can read
umask 077
export RAY_AUTH_TOKEN_PATH="@{folder}.token-$SLURM_JOB_ID"
trap 'rm -f "$RAY_AUTH_TOKEN_PATH"' EXIT
head -c 32 /dev/urandom | od -An -vtx1 | tr -d ' \n' > "$RAY_AUTH_TOKEN_PATH"

first=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
address=$(srun --nodes=1 --ntasks=1 --nodelist="$first" hostname --ip-address | awk '{print $1}')
# where SLURM does not track processes by cgroup, a job that ran into its time limit leaves its Ray on the nodes
srun --nodes=@{nodes} --ntasks=@{nodes} ray stop --force
# the dashboard listens on localhost of the first node only, which is Ray's default
srun --nodes=@{nodes} --ntasks=@{nodes} ray symmetric-run --address "$address:6379" --min-nodes @{nodes} \
  --num-cpus=@{cpus} --num-gpus=@{gpus} -- bash -c '@{command}'
