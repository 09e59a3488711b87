"""The benchmark ("make bench"): what maintd costs, beside nginx, and what it must not cost.

While wrk asks, the server has a quarter of core 0 (a cgroup quota) and wrk has core 1: otherwise it
is wrk that is measured. Timings are medians and only printed, except that a large page has to keep
up with a bare loop of system calls. Run it as root; it needs wrk, nginx, strace and valgrind.
"""
import contextlib, os, pathlib, re, socket, statistics, subprocess, sys, tempfile, time

small, large = "x" * 1500, "x" * (1 << 20)
get = b"GET / HTTP/1.1\r\nHost: example\r\nConnection: close\r\n\r\n"

if len(sys.argv) > 1:  # "bench.py PORT" is the bare loop.
    listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
    response = b"HTTP/1.1 503 Service Unavailable\r\n\r\n" + large.encode()
    while True:
        with listener.accept()[0] as client, contextlib.suppress(OSError):
            client.recv(4096)
            client.sendall(response)

folder = tempfile.TemporaryDirectory()
work = pathlib.Path(folder.name)
(work / "small").write_text(small)
(work / "large").write_text(large)
(work / "wrk.lua").write_text(f"""function response(status, header, body)
    if status ~= 503 or body ~= "{small}" then print("wrong") end
end""")
nginx_conf = """daemon off; master_process off; user root; pid %s/pid;
events { worker_connections 8192; }
http { access_log off; server { listen 127.0.0.1:%s backlog=4096; location / { return 503 "%s";
default_type text/html; add_header Retry-After 120 always; } } }"""
maintd, nginx = ["./maintd", "-p", "PORT", work / "small"], ["nginx", "-c", work / "nginx"]
failures = []

def check(condition, figures):
    print("ok  " if condition else "FAIL", figures, flush=True)
    failures.extend([] if condition else [figures])

def connect(port):
    return socket.create_connection(("127.0.0.1", port))

def visits(port, count=1):
    """Returns how many microseconds a visit takes: the median of `count` visits."""
    times = [time.perf_counter()]
    for _ in range(count):
        with connect(port) as client:
            client.sendall(get)
            client.shutdown(socket.SHUT_WR)  # so that maintd closes at once after a large page, too
            while client.recv(1 << 18):
                pass
        times.append(time.perf_counter())
    return 1e6 * statistics.median(end - start for start, end in zip(times, times[1:]))

def wait_for_status(pid, text):
    while text not in pathlib.Path(f"/proc/{pid}/status").read_text():
        time.sleep(0.01)

@contextlib.contextmanager
def serve(command):
    """Runs a server on a free port, which takes the place of PORT in the command."""
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    (work / "nginx").write_text(nginx_conf % (work, port, small))
    words = [str(port) if word == "PORT" else word for word in command]
    with subprocess.Popen(words, stderr=subprocess.DEVNULL) as process:
        try:
            while process.poll() is None and socket.socket().connect_ex(("127.0.0.1", port)) != 0:
                time.sleep(0.01)
            visits(port)
            yield process.pid, port
        finally:
            process.terminate()

def system_calls(pid, act, *arguments):
    """Returns how often each system call of the server succeeded while `act` ran."""
    log = work / "calls"
    with subprocess.Popen(["strace", "-qq", "-o", log, "-p", str(pid)]) as strace:
        wait_for_status(pid, f"TracerPid:\t{strace.pid}")
        act(*arguments)
        wait_for_status(pid, "State:\tS")  # in poll(): the last close() is over
        strace.terminate()
    names = re.findall(r"^(\w+)\(.* = \d", log.read_text(), re.MULTILINE)
    return {name: names.count(name) for name in names}

def allocations(count):
    with serve(["valgrind", f"--log-file={work}/valgrind", *maintd]) as (_, port):
        visits(port, count)
    return re.search(r"([\d,]+) allocs", (work / "valgrind").read_text()).group(1)

def page_time(command):
    with serve(command) as (_, port):
        return [visits(port, 100)]

def cost(command):
    """Returns microseconds: of CPU time per answer, and of a visit beside a full table."""
    with serve(command) as (pid, port):
        idle = [connect(port) for _ in range(1023)]
        visit_time = visits(port, 500)
        del idle
        (cgroup / "cgroup.procs").write_text(str(pid))
        os.sched_setaffinity(pid, {0})
        clock = ~pid << 3 | 2  # that of clock_getcpuclockid(3)
        before = time.clock_gettime(clock)
        wrk = ["wrk", "-t1", "-c256", "-d3s", "-s", work / "wrk.lua", "-H", "Connection: close"]
        text = subprocess.run(["taskset", "-c", "1", *wrk, f"http://127.0.0.1:{port}/"],
                              capture_output=True, text=True).stdout
        answers = int(re.search(r"(\d+) requests in", text).group(1))
        check("wrong" not in text and "timeout" not in text, f"{answers} right answers under load")
        return 1e6 * (time.clock_gettime(clock) - before) / answers, visit_time

def medians(rounds, measure, *servers):
    """Measures the servers in turn, several times. Returns the medians for each server."""
    turns = [[measure(each) for each in servers] for _ in range(rounds)]
    return [[statistics.median(figure) for figure in zip(*each)] for each in zip(*turns)]

with serve(maintd) as (pid, port):
    calls = system_calls(pid, visits, port, 1000)
    exact = {calls.get(name) for name in ("accept", "recvfrom", "sendto", "close")}
    check(exact == {1000} and calls["poll"] <= 2100, f"system calls of 1,000 answers: {calls}")
    calls = system_calls(pid, time.sleep, 5)
    check(sum(calls.values()) <= 6, f"system calls of 5 s without a visitor: {calls}")
few, many = allocations(10), allocations(1010)
check(few == many, f"allocations after 10 answers: {few}, after 1,010: {many}")

bare_loop = [sys.executable, __file__, "PORT"]
[ours], [bare] = medians(5, page_time, [*maintd[:-1], work / "large"], bare_loop)
check(ours <= bare / 0.8, f"a page of 1 MiB: {ours:.0f} us, of the bare loop {bare:.0f} us")

v1 = os.path.isdir("/sys/fs/cgroup/cpu")
cgroup = pathlib.Path("/sys/fs/cgroup", "cpu" if v1 else "", f"maintd-bench-{os.getpid()}")
cgroup.mkdir()
try:
    (cgroup / ("cpu.cfs_quota_us" if v1 else "cpu.max")).write_text("25000")  # of 100,000
    costs = medians(3, cost, maintd, nginx)
finally:
    cgroup.rmdir()
for name, (cpu, visit) in zip(("maintd", "nginx"), costs):
    print(f"{name}: {cpu:.1f} us of CPU time per answer, {visit:.0f} us beside a full table")
sys.exit(len(failures))
