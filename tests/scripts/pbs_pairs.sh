#!/bin/bash
# bigncc: 2 pairs of /data/my pairs.csv by 2 jobs
#   bash THIS_FILE    submits the jobs; once more, after some were lost, and what is missing is computed
#PBS -l select=1:ncpus=2:mem=4769mb
#PBS -l walltime=04:00:00
#PBS -r y
#PBS -j oe
#PBS -V

step=${1:-$BIGNCC_STEP}
if [ -z "$step" ]; then
  [ -z "$PBS_JOBID" ] || { echo "bigncc: this job does not know its step" >&2; exit 4; }
  case "$0" in /*) self=$0 ;; *) self=$PWD/$0 ;; esac
  cd '/data/my scans' && mkdir -p '/data/my scans' && said=$(mktemp) || exit 4
  trap 'rm -f "$said"' EXIT
  submit() {
    step=$1
    shift
    id=$({ qsub -N bigncc-my_pairs-"$step" -v BIGNCC_STEP="$step" "$@" "$self"; } 2>"$said")
    if [ -z "$id" ]; then
      echo "bigncc: $step was refused, so nothing is submitted: $(tr '\n' ' ' <"$said")" >&2
      [ -z "$ids" ] || qdel $ids
      exit 4
    fi
    cat "$said" >&2
    ids="$ids $id"
  }
  submit array -J 0-1 -o '/data/my scans/'
  echo "submitted array:$ids"
  exit 0
fi

cd '/data/my scans' || exit 4
export NUMBA_CACHE_DIR=/data/kept
set -- 'a b.zarr' b.zarr 'it'"'"'s.ome.zarr' --window 9
case "$step" in
  array) set -- run --pairs '/data/my pairs.csv' "$@" --part "${PBS_ARRAY_INDEX:-0}/2" --max-time 14280s ;;
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
fi
exit "$code"
