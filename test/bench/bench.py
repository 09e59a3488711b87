# SPDX-License-Identifier: 0BSD
"""The benchmark ("make bench"): what maintd costs, beside nginx, and what it must not cost.
Times are medians of servers that take turns. It needs root, wrk, nginx, strace and valgrind."""
import collections, os, pathlib, re, socket, statistics, subprocess, sys, tempfile, time

sys.path.append("test/proof")
from server import Server

BROWSER = (b"GET / HTTP/1.1\r\nHost: example\r\nConnection: close\r\nCookie: "
           + b"session=0123456789; " * 46 + b"\r\nAccept: text/html,*/*;q=0.8" * 9 + b"\r\n\r\n")
NGINX = """daemon off; master_process off; pid %s/pid; events { worker_connections 8192; }
http { access_log off; server { listen 127.0.0.1:PORT backlog=4096; location / {
default_type text/html; add_header Retry-After 60 always; return 503 "%s"; } } }"""
BARE_LOOP = """import contextlib, socket, sys
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
response = b"HTTP/1.1 503 Service Unavailable\\r\\n\\r\\n" + b"x" * (1 << 20)
while True:
    with contextlib.suppress(OSError), listener.accept()[0] as client:  # It may leave early.
        client.recv(4096)
        client.sendall(response)"""

folder = tempfile.TemporaryDirectory()
work = pathlib.Path(folder.name)
for name, size in {"small": 1500, "large": 1 << 20}.items():
    (work / name).write_text("x" * size)
failures = []

def check(condition, figures):
    print("ok  " if condition else "FAIL", figures, flush=True)
    failures.extend([] if condition else [figures])

def maintd(page, *wrapper):
    return Server(*wrapper, "./maintd", "-u", "0", "-p", "PORT", work / page, stderr=-3)

def nginx():
    shell = f'echo "$0" >{work}/nginx; exec nginx -e {work}/errors -c {work}/nginx'
    return Server("sh", "-c", shell, NGINX % (work, "x" * 1500), stderr=-3)

def visits(server, count):
    """Returns how many microseconds a visit takes: the median of `count` visits."""
    times = [time.perf_counter()]
    for _ in range(count):
        with socket.create_connection(server.address) as client:
            client.sendall(BROWSER)
            client.shutdown(socket.SHUT_WR)  # so that maintd closes at once after a large page, too
            while client.recv(1 << 18):
                pass
        times.append(time.perf_counter())
    return 1e6 * statistics.median(end - start for start, end in zip(times, times[1:]))

def wrk(server, seconds):
    """Returns how many requests wrk has sent, each of which got the page."""
    url = "http://127.0.0.1:%i/" % server.address[1]
    command = ["taskset", "-c", "1", "wrk", "-t1", "-c256", "-H", "Connection: close"]
    command += ["--timeout", "99s", f"-d{seconds}s", url]  # A busy machine may be slow.
    text = subprocess.run(command, stdout=subprocess.PIPE, text=True).stdout
    answers, pages = re.findall(r"\d+(?= requests in)|(?<=responses: )\d+", text)
    assert answers == pages and "errors" not in text, text
    return int(answers)

def in_turns(act, *servers):
    """Returns the median of act()'s figures for each server."""
    figures = [[] for _ in servers]
    for start, results in [*zip(servers, figures)] * 5:
        with start() as server:
            results.append(act(server))
    return map(statistics.median, figures)

def system_calls(server, act, *arguments):
    """Returns how often each system call of the server succeeded while `act` ran."""
    with server.traced(work / "calls"):
        act(*arguments)
    return collections.Counter(re.findall(r"(?m)^(\w+)\(.* = \d", (work / "calls").read_text()))

def instructions(count):
    """Returns how many instructions it takes to start, to answer so many requests, and to stop."""
    callgrind = "valgrind", "--tool=callgrind", "--vgdb=no", f"--callgrind-out-file={work}/out"
    with maintd("small", *callgrind) as server:
        visits(server, count)
        server.process.terminate()
        server.process.wait()
    return int(re.search(r"(?m)^totals: (\d+)", (work / "out").read_text()).group(1))

def cpu_time(server):
    """Returns the microseconds of CPU time per answer of a server that has 1 ms of each 5 ms of
    core 0: in longer turns it would wait for wrk, which has core 1."""
    (cgroup / "cgroup.procs").write_text(str(server.process.pid))
    os.sched_setaffinity(server.process.pid, {0})
    clock = ~server.process.pid << 3 | 2  # that of clock_getcpuclockid(3)
    before = time.clock_gettime(clock)
    answers = wrk(server, 3)
    return 1e6 * (time.clock_gettime(clock) - before) / answers

def memory(server):
    return int(server.status("VmRSS").split()[0])

with maintd("small") as server:
    calls = system_calls(server, visits, server, 1000)
    exact = {calls[name] for name in ("accept", "recvfrom", "sendto", "close")}
    check(exact == {1000} and calls["poll"] <= 2100, f"calls of 1,000 answers: {dict(calls)}")
    calls = system_calls(server, time.sleep, 5)
    check(calls["poll"] <= 6, f"calls of 5 s without a visitor: {dict(calls)}")
    first, before = wrk(server, 5), memory(server)
    more, after = wrk(server, 60), memory(server)
    check(after <= before + 128, f"{before} kB after {first} answers, {after} after {more} more")
    idle = [socket.create_connection(server.address) for _ in range(1023)]
    visit = visits(server, 500)
    check(visit < 500, f"a visit beside {len(idle)} silent clients: {visit:.0f} us")
each = (instructions(1010) - instructions(10)) // 1000
check(each <= 5000, f"instructions for a browser's request of 1.3 kB: {each}")

bare_loop = lambda: Server(sys.executable, "-c", BARE_LOOP, "PORT", stderr=-3)
ours, bare = in_turns(lambda server: visits(server, 100), lambda: maintd("large"), bare_loop)
check(ours <= bare / 0.8, f"a page of 1 MiB: {ours:.0f} us, of the bare loop {bare:.0f} us")

v1 = os.path.isdir("/sys/fs/cgroup/cpu")
cgroup = pathlib.Path("/sys/fs/cgroup", "cpu" if v1 else "", f"maintd-bench-{os.getpid()}")
cgroup.mkdir()
try:
    quota = [("cpu.cfs_period_us", "5000"), ("cpu.cfs_quota_us", "1000")]  # microseconds
    for name, value in quota if v1 else [("cpu.max", "1000 5000")]:
        (cgroup / name).write_text(value)
    ours, theirs = in_turns(cpu_time, lambda: maintd("small"), nginx)
finally:
    cgroup.rmdir()
check(ours < theirs, f"CPU time per answer: {ours:.1f} us, of nginx {theirs:.1f} us")
sys.exit(len(failures))
