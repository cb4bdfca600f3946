#!/bin/bash
# bigncc: it's.ome.zarr by 3 jobs
#   bash THIS_FILE    submits the jobs; once more, after some were lost, and what is missing is computed
#SBATCH --nodes=1 --ntasks=1 --cpus-per-task=2
#SBATCH --mem=4769M
#SBATCH --time=01:30:00
#SBATCH --signal=B:USR1@120
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH -q short
#SBATCH --account=me

step=${1:-$BIGNCC_STEP}
if [ -z "$step" ]; then
  case "$0" in /*) self=$0 ;; *) self=$PWD/$0 ;; esac
  cd '/data/my scans' && mkdir -p /data/logs && said=$(mktemp) || exit 4
  trap 'rm -f "$said"' EXIT
  submit() {
    step=$1
    shift
    id=$({ sbatch --parsable --job-name=bigncc-it_s-"$step" "$@" "$self" "$step" | cut -d ";" -f 1; } 2>"$said")
    if [ -z "$id" ]; then
      echo "bigncc: $step was refused, so nothing is submitted: $(tr '\n' ' ' <"$said")" >&2
      [ -z "$ids" ] || scancel $ids
      exit 4
    fi
    cat "$said" >&2
    ids="$ids $id"
  }
  submit prepare --output=/data/logs/bigncc-it_s-prepare-%j.log
  submit array --dependency=afterok:"$id" --kill-on-invalid-dep=yes --array=0-2%2 --output=/data/logs/bigncc-it_s-array-%A_%a.log
  submit finish --dependency=afterany:"$id" --output=/data/logs/bigncc-it_s-finish-%j.log
  echo "submitted prepare, array, finish:$ids"
  exit 0
fi

cd '/data/my scans' || exit 4
export NUMBA_CACHE_DIR=/data/kept
module load python
set -- 'a b.zarr' b.zarr 'it'"'"'s.ome.zarr' --window 9
case "$step" in
  prepare) set -- prepare "$@" ;;
  array) set -- run "$@" --part "$SLURM_ARRAY_TASK_ID/3" --max-time 5280s --steal ;;
  finish) set -- finish 'it'"'"'s.ome.zarr' ;;
esac

code=127 again=1 killed=
# time is nearly over: bigncc stops by itself, with exit code 75
trap 'again=1; [ -z "$!" ] || kill -USR1 "$!"' USR1
# whoever stops this job decides what becomes of it
trap 'again=1 killed=1; [ -z "$!" ] || kill -TERM "$!"' TERM INT
'/opt/my env/bin/bigncc' "$@" &
while [ "$again" ]; do
  again=
  wait "$!"
  last=$?
  [ "$last" = 127 ] || code=$last
done
if [ "$code" = 75 ] && [ "$killed" ]; then
  code=143
elif [ "$code" = 75 ]; then
  # in line again
  [ "${SLURM_RESTART_COUNT:-0}" -ge 100 ] || scontrol requeue "${SLURM_ARRAY_JOB_ID:-$SLURM_JOB_ID}${SLURM_ARRAY_TASK_ID:+_$SLURM_ARRAY_TASK_ID}"
fi
exit "$code"
