"""The benchmark ("make bench"): what maintd costs, beside nginx, and what it must not cost.

It needs root, wrk, nginx, strace and valgrind. The server has 1 ms of each 5 ms of core 0 (a cgroup
quota), wrk has core 1: in longer turns the server waits for wrk. Timings are medians, and are only
printed, except that a large page has to keep up with a bare loop of system calls.
"""
import collections, contextlib, os, pathlib, re, socket, statistics, subprocess, sys, tempfile, time

small, large = "x" * 1500, "x" * (1 << 20)

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
(work / "wrk.lua").write_text(f"""wrk.headers["Connection"] = "close"
function response(status, header, body)
    if status ~= 503 or body ~= "{small}" then print("wrong") end
end""")
nginx = """daemon off; master_process off; pid %s/pid; events { worker_connections 8192; }
http { access_log off; server { listen 127.0.0.1:%s backlog=4096; location / { return 503 "%s";
default_type text/html; add_header Retry-After 120 always; } } }"""
failures = []

def check(condition, figures):
    print("ok  " if condition else "FAIL", figures, flush=True)
    failures.extend([] if condition else [figures])

def visits(address, count=1):
    """Returns how many microseconds a visit takes: the median of `count` visits."""
    times = [time.perf_counter()]
    for _ in range(count):
        with socket.create_connection(address) as client:
            client.sendall(b"GET / HTTP/1.1\r\nHost: example\r\nConnection: close\r\n\r\n")
            client.shutdown(socket.SHUT_WR)  # so that maintd closes at once after a large page, too
            while client.recv(1 << 18):
                pass
        times.append(time.perf_counter())
    return 1e6 * statistics.median(end - start for start, end in zip(times, times[1:]))

def serve(command, act):
    """Runs a server on a free port instead of PORT. Returns what act(its pid, address) returns."""
    address = socket.create_server(("127.0.0.1", 0)).getsockname()  # closed again at once
    (work / "nginx").write_text(nginx % (work, address[1], small))
    words = command.replace("PORT", str(address[1])).split()
    with subprocess.Popen(words, stderr=subprocess.DEVNULL) as process:
        try:
            while process.poll() is None and socket.socket().connect_ex(address) != 0:
                time.sleep(0.01)
            visits(address)
            return act(process.pid, address)
        finally:
            process.terminate()

def medians(rounds, act, *servers):
    """Runs the servers in turn, several times. Returns the medians of act()'s figures for each."""
    turns = [[serve(each, act) for each in servers] for _ in range(rounds)]
    return [[statistics.median(figure) for figure in zip(*each)] for each in zip(*turns)]

def wait_for_status(pid, text):
    while text not in pathlib.Path(f"/proc/{pid}/status").read_text():
        time.sleep(0.01)

def system_calls(pid, act, *arguments):
    """Returns how often each system call of the server succeeded while `act` ran."""
    with subprocess.Popen(["strace", "-qq", "-o", work / "calls", "-p", str(pid)]) as strace:
        wait_for_status(pid, f"TracerPid:\t{strace.pid}")
        act(*arguments)
        wait_for_status(pid, "State:\tS")  # in poll(): the last close() is over
        strace.terminate()
    return collections.Counter(re.findall(r"(?m)^(\w+)\(.* = \d", (work / "calls").read_text()))

def check_calls(pid, address):
    calls = system_calls(pid, visits, address, 1000)
    exact = {calls[name] for name in ("accept", "recvfrom", "sendto", "close")}
    check(exact == {1000} and calls["poll"] <= 2100, f"calls of 1,000 answers: {dict(calls)}")
    calls = system_calls(pid, time.sleep, 5)
    check(calls.total() <= 6, f"calls of 5 s without a visitor: {dict(calls)}")

def allocations(count):
    serve(f"valgrind --log-file={work}/valgrind {maintd}", lambda _, at: visits(at, count))
    return re.search(r"([\d,]+) allocs", (work / "valgrind").read_text()).group(1)

def costs(pid, address):
    """Returns microseconds: of CPU time per answer, and of a visit beside a full table."""
    idle = [socket.create_connection(address) for _ in range(1023)]
    visit_time = visits(address, 500)
    del idle
    (cgroup / "cgroup.procs").write_text(str(pid))
    os.sched_setaffinity(pid, {0})
    clock = ~pid << 3 | 2  # that of clock_getcpuclockid(3)
    before = time.clock_gettime(clock)
    wrk = f"taskset -c 1 wrk -t1 -c256 -d3s -s {work}/wrk.lua http://127.0.0.1:{address[1]}/"
    text = subprocess.run(wrk.split(), stdout=subprocess.PIPE, text=True).stdout
    answers = int(re.search(r"(\d+) requests in", text).group(1))
    check("wrong" not in text and "timeout" not in text, f"{answers} right answers under load")
    return 1e6 * (time.clock_gettime(clock) - before) / answers, visit_time

maintd = f"./maintd -p PORT {work}/small"
serve(maintd, check_calls)
few, many = allocations(10), allocations(1010)
check(few == many, f"allocations after 10 answers: {few}, after 1,010: {many}")

pages = f"./maintd -p PORT {work}/large", f"{sys.executable} {__file__} PORT"
[ours], [bare] = medians(5, lambda _, address: [visits(address, 100)], *pages)
check(ours <= bare / 0.8, f"a page of 1 MiB: {ours:.0f} us, of the bare loop {bare:.0f} us")

v1 = os.path.isdir("/sys/fs/cgroup/cpu")
cgroup = pathlib.Path("/sys/fs/cgroup", "cpu" if v1 else "", f"maintd-bench-{os.getpid()}")
cgroup.mkdir()
try:
    quota = [("cpu.cfs_period_us", "5000"), ("cpu.cfs_quota_us", "1000")]  # microseconds
    for name, value in quota if v1 else [("cpu.max", "1000 5000")]:
        (cgroup / name).write_text(value)
    results = medians(3, costs, maintd, f"nginx -c {work}/nginx")
finally:
    cgroup.rmdir()
for name, (cpu, visit) in zip(("maintd", "nginx"), results):
    print(f"{name}: {cpu:.1f} us of CPU time per answer, {visit:.0f} us beside a full table")
sys.exit(len(failures))
