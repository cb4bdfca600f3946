#!/bin/bash
# bigncc: it's.ome.zarr by 3 jobs
#   bash THIS_FILE    submits the jobs; once more, after some were lost, and what is missing is computed
#$ -S /bin/bash
#$ -pe smp 2
#$ -l mem_free=4769M
#$ -l h_rt=01:30:00 -l s_rt=01:28:00
#$ -r y
#$ -j y
#$ -V
#$ -q short

step=${1:-$BIGNCC_STEP}
if [ -z "$step" ]; then
  case "$0" in /*) self=$0 ;; *) self=$PWD/$0 ;; esac
  cd '/data/my scans' && mkdir -p /data/logs && said=$(mktemp) || exit 4
  trap 'rm -f "$said"' EXIT
  submit() {
    step=$1
    shift
    id=$({ qsub -terse -N bigncc-it_s-"$step" "$@" "$self" "$step" | cut -d . -f 1; } 2>"$said")
    if [ -z "$id" ]; then
      echo "bigncc: $step was refused, so nothing is submitted: $(tr '\n' ' ' <"$said")" >&2
      [ -z "$ids" ] || qdel $ids
      exit 4
    fi
    cat "$said" >&2
    ids="$ids $id"
  }
  submit prepare -o /data/logs/
  submit array -hold_jid "$id" -t 1-3 -tc 2 -o /data/logs/
  submit finish -hold_jid "$id" -o /data/logs/
  echo "submitted prepare, array, finish:$ids"
  exit 0
fi

cd '/data/my scans' || exit 4
export NUMBA_CACHE_DIR=/data/kept
module load python
set -- 'a b.zarr' b.zarr 'it'"'"'s.ome.zarr' --window 9
case "$step" in
  prepare) set -- prepare "$@" ;;
  array) set -- run "$@" --part "$((SGE_TASK_ID - 1))/3" --max-time 5280s --steal ;;
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
  code=99
fi
exit "$code"
