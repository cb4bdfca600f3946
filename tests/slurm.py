"""A real Slurm of two virtual nodes on this machine, in a folder of its own, with its own ports, key and socket."""

import contextlib
import os
import signal
import socket
import subprocess
import time
from pathlib import Path

PATH = f"{os.environ['PATH']}:/usr/sbin:/sbin"
NODES = ("n1", "n2")

CONF = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=6
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=1
JobAcctGatherParams=OverMemoryKill
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=1,bf_interval=1,batch_sched_delay=0
MpiDefault=none
ReturnToService=2
SlurmdTimeout=300
KillWait=2
MinJobAge=600
JobRequeue=1
AccountingStorageType=accounting_storage/none
SlurmdParameters=config_overrides
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[1]} CPUs=4 RealMemory=6000 State=UNKNOWN
NodeName=n2 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[2]} CPUs=4 RealMemory=6000 State=UNKNOWN
PartitionName=main Nodes=n1,n2 Default=YES MaxTime=INFINITE State=UP
"""


def free_ports(count):
    """Ports that nobody listens on."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def until(true, what, seconds=60, pause=0.1):
    """Wait for something and return it."""
    deadline = time.monotonic() + seconds
    while not (found := true()):
        assert time.monotonic() < deadline, what() if callable(what) else what
        time.sleep(pause)
    return found


class Slurm:
    """A cluster that is up as long as its context."""

    def __init__(self, folder):
        self.folder = Path(folder)
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("SLURM", "SBATCH"))},
            "PATH": PATH,
            "SLURM_CONF": str(self.folder / "slurm.conf"),
        }
        self.daemons = {}

    def __enter__(self):
        host = socket.gethostname().partition(".")[0]
        (self.folder / "state").mkdir()
        # everybody may look for the socket
        self.folder.chmod(0o755)
        key = self.folder / "munge.key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o400)
        conf = CONF.format(folder=self.folder, host=host, ports=free_ports(3))
        (self.folder / "slurm.conf").write_text(conf)
        files = {"key-file": "key", "socket": "socket", "pid-file": "pid", "log-file": "log", "seed-file": "seed"}
        options = [f"--{option}={self.folder}/munge.{name}" for option, name in files.items()]
        try:
            # forced, as it trusts no temporary folder
            self.daemon("munge", "munged", "--foreground", "--force", *options)
            until((self.folder / "munge.socket").exists, "no munge")
            self.daemon("slurmctld", "slurmctld", "-D", "-c")
            for node in NODES:
                self.start(node)
            until(lambda: self.idle() == len(NODES), "no two nodes are idle")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        with contextlib.suppress(subprocess.SubprocessError, AssertionError):
            self.do("scancel", "--user=root")
            until(lambda: not self.do("squeue", "-h"), "jobs that do not end", 10)
        for process in self.daemons.values():
            process.kill()
            process.wait()

    def daemon(self, name, *words):
        """Start a process that ends with this one, whatever ends that."""
        words = ("setpriv", "--pdeathsig", "KILL", *words)
        with (self.folder / f"{name}.out").open("ab") as out:
            self.daemons[name] = subprocess.Popen(words, env=self.environment, stdout=out, stderr=out)

    def do(self, *words, folder=None):
        """Run a command of Slurm and return what it prints."""
        done = subprocess.run(words, cwd=folder, env=self.environment, capture_output=True, text=True, timeout=60)
        if done.returncode:
            raise subprocess.CalledProcessError(done.returncode, words, done.stdout, done.stderr)
        return done.stdout

    def start(self, node):
        """Start the daemon of a node."""
        self.daemon(node, "slurmd", "-D", "-N", node)

    def idle(self):
        """How many nodes wait for work."""
        with contextlib.suppress(subprocess.CalledProcessError):
            return int(self.do("sinfo", "-h", "-o", "%D", "-t", "idle") or 0)
        return 0

    def crash(self, node, *jobs):
        """Take a node away as a power cut does: its daemon, and the processes of jobs that run there."""
        pids = []
        for job in jobs:
            listed = self.do("scontrol", "listpids", job, node).splitlines()[1:]
            pids += [pid for line in listed if (pid := int(line.split()[0])) > 0]
        self.daemons[node].kill()
        self.daemons[node].wait()
        for pid in (*_watchers(pids), *pids):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.do("scontrol", "update", f"nodename={node}", "state=down", "reason=crash")
        return pids

    def jobs(self, *ids):
        """Fields of each job and array task of some ids, pending or done."""
        lines = self.do("scontrol", "-o", "show", "job").splitlines()
        found = [dict(word.partition("=")[::2] for word in line.split() if "=" in word) for line in lines]
        return [job for job in found if job.get("ArrayJobId", job.get("JobId")) in ids]

    def ended(self, *ids, seconds=60):
        """Wait until all jobs of some ids are over; return their fields."""
        over = {"COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY"}
        until(lambda: all(job["JobState"] in over for job in self.jobs(*ids)), lambda: self.jobs(*ids), seconds, 0.5)
        return self.jobs(*ids)


def _watchers(pids):
    """The processes of Slurm that started others and wait for their end."""
    parents = {int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1]) for pid in pids}
    return [pid for pid in parents if Path(f"/proc/{pid}/cmdline").read_bytes().startswith(b"slurmstepd")]
