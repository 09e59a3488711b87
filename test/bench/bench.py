"""The benchmark ("make bench"): what maintd costs, beside nginx and a bare loop of system calls.

The server has core 0 and a quarter of it (a cgroup quota), wrk core 1: otherwise it is wrk that is
measured. The servers take turns, and figures are medians. Timings are only printed; what does not
depend on the machine is asserted. Run by root; needs wrk, nginx, strace and valgrind.
"""
import os, pathlib, re, signal, socket, statistics, subprocess, sys, tempfile, time

folder = tempfile.TemporaryDirectory()
work = pathlib.Path(folder.name)
work.chmod(0o755)
v1 = pathlib.Path("/sys/fs/cgroup/cpu")
cgroup = (v1 if v1.is_dir() else v1.parent) / f"maintd-bench-{os.getpid()}"
get = b"GET / HTTP/1.1\r\nHost: example\r\nConnection: close\r\n\r\n"
small, large = "x" * 1500, "x" * (1 << 20)
(work / "small").write_text(small)
(work / "large").write_text(large)
(work / "wrk.lua").write_text(f"""
wrong = 0
function setup(thread) the_thread = thread end
function response(status, header, body)
    if status ~= 503 or body ~= "{small}" then wrong = wrong + 1 end
end
function done(summary)
    print("RESULT", summary.requests, the_thread:get("wrong") + summary.errors.timeout)
end""")
nginx = """daemon off; master_process off; user root; pid %s/pid;
events { worker_connections 8192; }
http { access_log off; server { listen 127.0.0.1:%s backlog=4096; location / { return 503 "%s";
default_type text/html; add_header Retry-After 120 always; } } }"""

class Server:
    """Serves the page at `path`; `prefix` is the command that runs the server."""

    def __init__(self, name, path=work / "small", prefix=()):
        with socket.create_server(("127.0.0.1", 0)) as unused:
            self.port = unused.getsockname()[1]
        (work / "nginx").write_text(nginx % (work, self.port, small))
        command = {"maintd": ["./maintd", "-p", str(self.port), path],
                   "nginx": ["nginx", "-c", work / "nginx"],
                   "bare loop": ["test/bench/bare", str(self.port), path]}[name]
        self.process = subprocess.Popen([*prefix, *command], stderr=subprocess.DEVNULL)
        for _ in range(1000):
            try:
                return self.connect().close()
            except ConnectionRefusedError:
                time.sleep(0.01)
        sys.exit(f"{name} does not start")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait()

    def connect(self):
        return socket.create_connection(("127.0.0.1", self.port))

    def visit(self):
        with self.connect() as client:
            client.sendall(get)
            return sum(iter(lambda: len(client.recv(1 << 18)), 0))

    def proc(self, file):
        return pathlib.Path(f"/proc/{self.process.pid}/{file}").read_text()

    def cpu(self):
        fields = self.proc("stat").rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def strace(self, act):
        """Returns how often each system call succeeded while `act` ran."""
        command = ["strace", "-qq", "-o", work / "calls", "-p", str(self.process.pid)]
        strace = subprocess.Popen(command)
        while not int(re.search(r"TracerPid:\s*(\d+)", self.proc("status")).group(1)):
            time.sleep(0.01)
        act()
        strace.terminate()
        strace.wait()
        names = re.findall(r"^(\w+)\(.* = \d", (work / "calls").read_text(), re.MULTILINE)
        return {name: names.count(name) for name in names}

def microseconds(action, count=500):
    times = []
    for _ in range(count):
        start = time.perf_counter()
        action()
        times.append(1e6 * (time.perf_counter() - start))
    return statistics.median(times)

def check(condition, figures):
    print(("ok  " if condition else "FAIL"), figures)
    failures.append(figures) if not condition else None

def cost(name):
    """CPU time per answer, and a lone visitor's time, alone and beside 1,000 idle connections."""
    with Server(name) as server:
        alone = microseconds(server.visit)
        idle = [server.connect() for _ in range(1000 if name != "bare loop" else 0)]
        beside = microseconds(server.visit)
        for each in idle:
            each.close()
        (cgroup / "cgroup.procs").write_text(str(server.process.pid))
        os.sched_setaffinity(server.process.pid, {0})
        before = server.cpu()
        text = subprocess.run(
            ["taskset", "-c", "1", "wrk", "-t1", "-c256", "-d3s", "-s", work / "wrk.lua", "-H",
             "Connection: close", f"http://127.0.0.1:{server.port}/"],
            stdout=subprocess.PIPE, text=True)
        answers, wrong = map(int, re.search(r"RESULT\s+(\d+)\s+(\d+)", text.stdout).groups())
        wrong_bodies.append(wrong)
        return 1e6 * (server.cpu() - before) / answers, alone, beside

def burst(server):
    """1,000 clients send their request before the server sees the first of them."""
    server.process.send_signal(signal.SIGSTOP)
    clients = [server.connect() for _ in range(1000)]
    for client in clients:
        client.sendall(get)
    server.process.send_signal(signal.SIGCONT)
    for client in clients:
        while client.recv(1 << 18):
            pass

def allocations(visits):
    with Server("maintd", prefix=["valgrind", f"--log-file={work}/valgrind"]) as server:
        for _ in range(visits):
            server.visit()
    return re.search(r"([\d,]+) allocs", (work / "valgrind").read_text()).group(1)

failures, wrong_bodies = [], []
with Server("maintd") as maintd:
    calls = maintd.strace(lambda: burst(maintd))
    exact = {calls.get(name) for name in ("accept", "recvfrom", "sendto", "close")}
    check(exact == {1000} and calls.get("poll", 0) <= 20, f"system calls of 1,000 answers: {calls}")
    calls = maintd.strace(lambda: time.sleep(5))
    check(sum(calls.values()) <= 6, f"system calls of 5 s without a visitor: {calls}")
few, many = allocations(10), allocations(1010)
check(few == many, f"allocations after 10 answers: {few}, after 1,010: {many}")

rates = {name: [] for name in ("maintd", "bare loop")}
for _ in range(5):
    for name, each in rates.items():
        with Server(name, work / "large") as server:
            each.append(1e6 / microseconds(server.visit, 100))
maintd_rate, bare_rate = (statistics.median(each) for each in rates.values())
check(maintd_rate >= 0.8 * bare_rate,
      f"pages of 1 MiB a second: {maintd_rate:.0f}, of the bare loop {bare_rate:.0f}")

cgroup.mkdir()
try:
    if (cgroup / "cpu.max").exists():
        (cgroup / "cpu.max").write_text("2500 10000")
    else:
        (cgroup / "cpu.cfs_period_us").write_text("10000")
        (cgroup / "cpu.cfs_quota_us").write_text("2500")
    costs = {name: [] for name in ("maintd", "nginx", "bare loop")}
    for _ in range(3):
        for name, each in costs.items():
            each.append(cost(name))
finally:
    cgroup.rmdir()
check(sum(wrong_bodies) == 0, f"wrong answers: {sum(wrong_bodies)}")
print("us, medians      CPU per answer   lone visitor   beside 1,000 idle ones")
for name, each in costs.items():
    print("{:16} {:14.1f} {:14.0f} {:24.0f}".format(name, *map(statistics.median, zip(*each))))
sys.exit(len(failures))
