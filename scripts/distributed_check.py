"""Trains in network namespaces, as machines with addresses of their own: speed over a slow network, and faults.

    python3 scripts/distributed_check.py PROGRAM [--faults 50] [--seed 1] [--ranks 3] [--mbit 50] [--delay 20] [--speed]

As root on Linux (`make distributed-check`); elsewhere it says why it does nothing. Each namespace has a tap device, and this program
is the switch between them: it delays each frame by half of `--delay` milliseconds, and can pull a plug. The bandwidth of each port is
limited by the kernel (tbf). Faults are a SIGKILL, a SIGSTOP and an unplugged port of each rank in turn: within 30 seconds all other
ranks must have ended with a line, the last checkpoint must be whole, and the next ranks resume from it. Only Python's standard library
is used.
"""

import argparse
import fcntl
import heapq
import json
import os
import random
import select
import shutil
import signal
import statistics
import struct
import subprocess
import sys
import tempfile
import threading
import time
import tomllib
from pathlib import Path

TUNSETIFF, IFF_TAP, IFF_NO_PI = 0x400454CA, 0x0002, 0x1000
MTU = 9000
ENDED_WITHIN = 30  # seconds
START_WITHIN = 300
SMALL = "--layers 2 --heads 2 --embd 32 --context 32 --batch-size 12 --dropout 0.1 --eval-every 100000 --threads 1 --device cpu"


def ip(*arguments):
    subprocess.run(["ip", *map(str, arguments)], check=True)


class Network:
    """Namespaces, and the switch between them."""

    def __init__(self, ports, mbit, delay):
        self.names = [f"mlxgpt{os.getpid()}p{port}" for port in range(ports)]
        self.delay, self.unplugged, self.running = delay / 2000, set(), True
        self.taps = []
        for port, name in enumerate(self.names):
            tap = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
            device = f"mg{os.getpid() % 100000}p{port}"
            fcntl.ioctl(tap, TUNSETIFF, struct.pack("16sH", device.encode(), IFF_TAP | IFF_NO_PI))
            self.taps.append(tap)
            ip("netns", "add", name)
            ip("link", "set", device, "netns", name)
            ip("-n", name, "addr", "add", f"{self.address(port)}/24", "dev", device)
            ip("-n", name, "link", "set", device, "mtu", MTU, "up")
            ip("-n", name, "link", "set", "lo", "up")
            tbf = ["tc", "qdisc", "add", "dev", device, "root", "tbf", "rate", f"{mbit}mbit", "burst", "64kb", "latency", "1s"]
            subprocess.run(["ip", "netns", "exec", name, *tbf], check=True)
        self.thread = threading.Thread(target=self.switch, daemon=True)
        self.thread.start()

    @staticmethod
    def address(port):
        return f"10.77.0.{port + 1}"

    def switch(self):
        """Passes each frame on to the port of its address, or to all, half of the delay later."""
        learned, waiting, number = {}, [], 0
        while self.running:
            timeout = max(0, waiting[0][0] - time.monotonic()) if waiting else 0.2
            for tap in select.select(self.taps, [], [], min(timeout, 0.2))[0]:
                port = self.taps.index(tap)
                frame = os.read(tap, MTU + 64)
                learned[frame[6:12]] = port
                known = learned.get(frame[:6])
                for to in range(len(self.taps)) if known is None else [known]:
                    if to != port and not {to, port} & self.unplugged:
                        number += 1
                        heapq.heappush(waiting, (time.monotonic() + self.delay, number, to, frame))
            while waiting and waiting[0][0] <= time.monotonic():
                _, _, to, frame = heapq.heappop(waiting)
                try:
                    os.write(self.taps[to], frame)
                except BlockingIOError:
                    pass  # a full queue drops, as a switch does

    def close(self):
        self.running = False
        self.thread.join()
        for name in self.names:
            subprocess.run(["ip", "netns", "del", name], check=False)


class Ranks:
    """The ranks of a run, each in its namespace."""

    def __init__(self, network, program, folder, options, count):
        self.folder = folder
        ring = [[f"{network.address(rank)}:{5000 + rank}"] for rank in range(count)]
        (folder / "ring.json").write_text(json.dumps(ring))
        self.processes = []
        for rank in range(count):
            environment = {**os.environ, "MLX_RANK": str(rank), "MLX_HOSTFILE": "ring.json", "TERM": "dumb"}
            with open(folder / f"said-{rank}", "w") as said:
                command = ["ip", "netns", "exec", network.names[rank], program, "train", *options.split()]
                self.processes.append(subprocess.Popen(command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=said))

    def said(self, rank):
        return (self.folder / f"said-{rank}").read_text()

    def wait(self, ranks, seconds):
        """Whether these have ended by then; seconds that it took."""
        started = time.monotonic()
        while time.monotonic() - started < seconds:
            if all(self.processes[rank].poll() is not None for rank in ranks):
                return time.monotonic() - started
            time.sleep(0.02)
        return None

    def kill(self):
        for process in self.processes:
            process.kill()
            process.wait()


def newest(run):
    """The name of the newest checkpoint, if there is one."""
    return os.path.basename(os.path.realpath(run / "latest")) if before else None


def wait_until(what, found, ranks):
    started = time.monotonic()
    while not found():
        if time.monotonic() - started > START_WITHIN:
            said = "\n".join(ranks.said(rank) for rank in range(len(ranks.processes)))
            raise SystemExit(f"still waiting for: {what}\n{said}")
        time.sleep(0.05)


def speed(network, program, folder):
    """Seconds a step of nano, by two ranks that sum gradients at each step, and that join every 50."""
    for more, count in ("", 60), ("--sync-every 50", 200):
        run = f"speed{count}"
        options = f"--steps {count} --out {run} --threads 1 --device cpu --eval-every 100000 {more}"
        ranks = Ranks(network, program, folder, options, 2)
        if ranks.wait([0, 1], 1200) is None:
            ranks.kill()
            raise SystemExit(f"{options}: not done after 20 minutes\n{ranks.said(0)}")
        lines = [json.loads(line) for line in (folder / run / "metrics.jsonl").read_text().splitlines()]
        rates = [line["tokens_per_second"] for line in lines if line.get("tokens_per_second")]
        config = tomllib.loads((folder / run / "config.toml").read_text())
        tokens = config["batch_size"] * config["context"] * config["grad_accum"]
        print(f"{more or 'each step summed':<20} {statistics.median(rates):10.0f} tokens/s, {1000 * tokens / statistics.median(rates):7.1f} ms a step", flush=True)


def faults(network, program, folder, count, ranks_count, rng):
    run = folder / "run"
    kinds = ["SIGKILL", "SIGSTOP", "unplugged"]
    slowest = dict.fromkeys(kinds, 0.0)
    for number in range(count):
        kind, victim = kinds[number % 3], (number // 3) % ranks_count
        before = newest(run)
        options = "--resume run" if before else f"--out run --steps 100000000 --save-every 20 --keep-last 2 {SMALL}"
        ranks = Ranks(network, program, folder, options, ranks_count)
        try:
            wait_until(f"a checkpoint after {before}", lambda: newest(run) != before or any(p.poll() is not None for p in ranks.processes), ranks)
            assert all(process.poll() is None for process in ranks.processes), ranks.said(0)
            time.sleep(rng.uniform(0, 1.0))
            others = [rank for rank in range(ranks_count) if rank != victim]
            if kind == "unplugged":
                network.unplugged = {victim}
                others.append(victim)
            else:
                ranks.processes[victim].send_signal(getattr(signal, kind))
            seconds = ranks.wait(others, ENDED_WITHIN)
            said = {rank: ranks.said(rank).splitlines() for rank in others}
            if seconds is None:
                raise SystemExit(f"fault {number}: {kind} of rank {victim}: not ended after {ENDED_WITHIN} s\n{said}")
            for rank, lines in said.items():
                errors = [line for line in lines if line.startswith("error: ")]
                if len(errors) != 1:
                    raise SystemExit(f"fault {number}: {kind} of rank {victim}: rank {rank} said\n" + "\n".join(lines))
        finally:
            network.unplugged = set()
            for process in ranks.processes:
                if process.poll() is None:
                    process.send_signal(signal.SIGCONT)
            ranks.kill()
        whole = subprocess.run([program, "generate", "--checkpoint", "run", "--max-new-tokens", "1", "--device", "cpu"], cwd=folder, capture_output=True, text=True)
        if whole.returncode != 0:
            raise SystemExit(f"fault {number}: {kind} of rank {victim}: the last checkpoint is not whole: {whole.stderr}")
        slowest[kind] = max(slowest[kind], seconds)
        first = next(line for line in said[others[0]] if line.startswith("error: "))
        print(f"fault {number + 1:>3} of {count}: {kind:<9} of rank {victim}: ended after {seconds:4.1f} s: {first}", flush=True)
    print(", ".join(f"{kind}: at most {seconds:.1f} s" for kind, seconds in slowest.items()))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program", type=Path)
    parser.add_argument("--faults", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--ranks", type=int, default=3)
    parser.add_argument("--mbit", type=int, default=50)
    parser.add_argument("--delay", type=float, default=20, help="of a message and its answer, in milliseconds")
    parser.add_argument("--speed", action="store_true", help="first, seconds a step of nano with and without --sync-every 50")
    arguments = parser.parse_args()
    missing = [tool for tool in ("ip", "tc") if not shutil.which(tool)]
    if not sys.platform.startswith("linux") or os.geteuid() != 0 or missing or not os.path.exists("/dev/net/tun"):
        print(f"SKIPPED: namespaces need Linux, root, /dev/net/tun, ip and tc{' (missing: ' + ', '.join(missing) + ')' if missing else ''}")
        return
    program = str(arguments.program.resolve())
    rng = random.Random(arguments.seed)
    print(f"seed {arguments.seed}, {arguments.ranks} ranks, {arguments.mbit} Mbit/s, {arguments.delay} ms", flush=True)
    network = Network(arguments.ranks, arguments.mbit, arguments.delay)
    try:
        with tempfile.TemporaryDirectory() as folder:
            if arguments.speed:
                speed(network, program, Path(folder))
            faults(network, program, Path(folder), arguments.faults, arguments.ranks, rng)
    finally:
        network.close()


if __name__ == "__main__":
    main()
