# SPDX-License-Identifier: 0BSD
"""Every system call of maintd fails here (strace makes it fail, also that of a static binary), with
the errors that the program tells apart, and two or three of those that it treats alike. At start it
prints one clear line and exits with 1, or it does without the call. Later nothing ends it, makes it
spin or leak, and no client is lost but the one whose own connection failed.

usage: faults.py [text]    text: how a case's name begins
"""
import collections, concurrent.futures, contextlib, errno, itertools, os, pathlib, re, select
import shutil, signal, socket, struct, subprocess, sys, tempfile, time

from server import PATIENCE, Server, eventually

MAINTD = os.path.abspath(os.environ.get("MAINTD", "./maintd"))
FOLDER = tempfile.TemporaryDirectory()
BODY = b"p" * 300_000  # takes several calls to read and to send
pathlib.Path(FOLDER.name, "page").write_bytes(BODY)
SERVES, MEMORY, KEPT = "serves", "out of memory", "-u 65534: root cannot be given up"
SLEEP = "clock_nanosleep,nanosleep"

class Fault:
    """strace's options that make calls fail, and its log. `when` is strace's: "2", "1..3", "2+"."""
    numbers = itertools.count()

    def __init__(self, call, error="", when="1+"):
        self.log = pathlib.Path(FOLDER.name, f"strace-{next(Fault.numbers)}")
        self.options = ["-q", "-ttt", "-e", f"trace={call},poll,{SLEEP}"]
        self.why = os.strerror(getattr(errno, error)) if error.startswith("E") else ""
        if error:  # A brk() that fails returns the former end; 0 is as good.
            result = "retval=0" if call == "brk" or not self.why else f"error={error}"
            kill = ":signal=SIGPIPE" if error == "EPIPE" else ""
            self.options += ["-e", f"inject={call}:{result}{kill}:when={when}"]

    def lines(self, part="(INJECTED)"):
        return self.log.read_text().count(part) if self.log.exists() else 0

    def expect_rest(self):
        """A loop that rests for 10 ms has 50 rounds in half a second, one that spins thousands."""
        times = re.findall(r"(?m)^([\d.]+) poll\(", self.log.read_text())
        rounds = sum(float(each) > time.time() - 0.5 for each in times)
        assert rounds < 100, f"it spins: {rounds} rounds in half a second"

class Maintd(Server):
    """With a fault it runs under strace from its start; without one it has to serve."""

    def __init__(self, fault=None, *options):
        self.fault = fault
        strace = ["strace", "-D", "-o", fault.log, *fault.options] if fault else []
        super().__init__(*strace, MAINTD, "-p", "PORT", *options, "page", cwd=FOLDER.name,
                         stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    def __enter__(self):
        return self if self.fault else super().__enter__()

    def connections(self):
        """Returns how many descriptors it has beside the standard ones and the listener."""
        return len(os.listdir(f"/proc/{self.process.pid}/fd")) - 4

    def ends(self, pattern, status):
        """Waits for its end, and strace's. Expects these lines and this status."""
        said = self.process.communicate(timeout=PATIENCE)[0].decode()
        result = self.process.returncode
        assert result == status and re.fullmatch(pattern, said), f"it ends with {result}: {said}"

    def stop(self, pattern=r"(maintd: .*\n)*"):
        self.process.terminate()
        self.ends(pattern, 0)

GET = b"GET / HTTP/1.1\r\nHost: example\r\n\r\n"
REQUESTS = {"plain": (GET, b""), "HEAD": (b"HEAD" + GET[3:], b""), "slow": (GET, b""),
            "half-closed": (b"GET / HTTP/1.1\r\n", b""), "two pieces": (GET[:2], GET[2:]),
            "upload": (b"POST / HTTP/1.1\r\nContent-Length: 99999\r\n\r\n" + b"u" * 99_999, b"")}

def expect_clients(maintd, cost=0, before_the_rest=lambda: None):
    """Six clients bring their connections into every state. Each, but for so many as the cost, has
    to get a whole response and then its end. The end does not come if close() fails."""
    clients = {name: socket.socket() for name in REQUESTS}
    for name, client in clients.items():
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096 if name == "slow" else 1 << 16)
        client.connect(maintd.address)
        with contextlib.suppress(OSError):  # a reset
            client.sendall(REQUESTS[name][0])
            if name == "half-closed":
                client.shutdown(socket.SHUT_WR)
    before_the_rest()
    def receive(name):
        got, end = b"", b"\r\nContent-Length: 300000\r\n\r\n" + BODY * (name != "HEAD")
        with contextlib.suppress(OSError):
            clients[name].sendall(REQUESTS[name][1])
        with contextlib.suppress(OSError):
            while piece := clients[name].recv(1 << 20):
                got += piece
            return name if got.startswith(b"HTTP/1.1 503 ") and got.endswith(end) else None
    lost = set(clients)
    with concurrent.futures.ThreadPoolExecutor(len(clients)) as pool:
        for each in concurrent.futures.as_completed([pool.submit(receive, name) for name in lost]):
            lost.discard(each.result())
            if len(lost) <= cost:
                break
        for client in clients.values():
            with contextlib.suppress(OSError):
                client.shutdown(socket.SHUT_RDWR)  # ends the threads that still wait
            # From now on close() resets. Otherwise the server may wait for room for 60 s.
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    assert len(lost) <= cost, f"lost: {lost}"

# ---- What is judged. Each function takes a call, its error, when it fails, and what is expected --

def start(call, error, when, expected):
    """Expects a part of the one line, or SERVES. Where memory fails, both are right."""
    fault = Fault(call, error, when)
    with Maintd(fault) as maintd:
        if not maintd.serves():
            why = "" if expected in (MEMORY, KEPT) else re.escape(fault.why)
            return maintd.ends(rf"(maintd: serving .*\n)?maintd: {expected}.*{why}.*\n", 1)
        assert expected in (SERVES, MEMORY), "it serves nonetheless"
        expect_clients(maintd)
        assert maintd.status("Uid").split() == ["65534"] * 4, "it is still root"
        maintd.stop(r"(maintd: serving .*\n)?(maintd: \d+ requests .*\n)?")
        assert fault.lines(), "no fault was injected"

def start_at_one_address(call, error, when, expected):
    """IPv4 replaces IPv6 only where every address is meant: "-l ::1" must not become public."""
    with Maintd(Fault(call, error, when), "-l", "::1") as maintd:
        assert not maintd.serves(), "it serves nonetheless"
        maintd.ends(rf"maintd: {expected}.*\n", 1)

def waiting(call, error, when, expected):
    """No error ends a wait for the port that -w has announced."""
    with Maintd() as former:
        with Maintd(Fault(call, error, when), "-w", "-p", former.address[1]) as maintd:
            eventually(lambda: maintd.fault.lines() > 3, "it does not try again")
            former.stop()
            maintd.address = former.address
            assert maintd.serves(), "it ends"
            expect_clients(maintd)
            maintd.stop(r"maintd: waiting for port .*\n(maintd: .*\n)*")

def serving(call, error, when, cost):
    """Expects that one fault costs so many clients at most. One that lasts is over after a second:
    then it has cost so many of each, and all others are served. A silent client is evicted only if
    the first accept() of a round says EMFILE, and goes by itself after 30 s."""
    began, fault = time.monotonic(), Fault(call, error, when)
    evicts = call == "accept" and error == "EMFILE"
    with Maintd() as maintd, contextlib.ExitStack() as stack:
        eventually(lambda: maintd.connections() == 0, "the first client stays")
        silent = socket.create_connection(maintd.address)
        eventually(lambda: maintd.connections() == 1, "it does not accept")
        stack.enter_context(maintd.traced(fault.log, *fault.options))
        def endure():
            if "+" in when:
                eventually(fault.lines, "no fault was injected")
                time.sleep(1)
                fault.expect_rest()
                stack.close()
        expect_clients(maintd, cost * (1 if when.isdigit() else len(REQUESTS)), endure)
        eventually(fault.lines, "no fault was injected")
        stack.close()
        gone = bool(select.select([silent], [], [], 0)[0])
        assert gone == evicts or time.monotonic() > began + 29, f"the silent one is gone: {gone}"
        silent.close()
        left = fault.lines() if call == "close" else 0  # strace's close() leaves it open.
        eventually(lambda: maintd.connections() <= left, "descriptors leak")
        expect_clients(maintd)
        maintd.stop()

def stopping(call, error, when, cost):
    """A server that is told to stop while only the kernel has accepted the clients serves them, and
    ends by itself, whatever fails. Expects the cost as serving() does."""
    fault = Fault(call, error, when)
    with Maintd() as maintd, maintd.traced(fault.log, *fault.options):
        def stop():
            maintd.process.terminate()
            maintd.process.send_signal(signal.SIGCONT)
        maintd.process.send_signal(signal.SIGSTOP)
        eventually(lambda: fault.lines("stopped by SIGSTOP"), "it does not stop")
        expect_clients(maintd, cost * (1 if when.isdigit() else len(REQUESTS)), stop)
        maintd.stop()
        fault.expect_rest()

# What is judged, the calls, their errors, which of the calls fail, and what is expected. The start
# counts from the beginning of main(), and "each" means each call of a server that is soon stopped.
TABLE = [
    (start, "openat read", "EACCES EINTR EIO", "each 1+", "page '"),
    (start, "socket bind listen", "EACCES EADDRINUSE ENOBUFS", "each", "port "),
    (start, "fcntl setsockopt", "EACCES EBADF", "1", "port "),
    (start, "setsockopt", "EINVAL", "1 3", SERVES),  # 1: as on OpenBSD, only IPv4
    (start, "socket", "EAFNOSUPPORT", "1", SERVES),  # without IPv6
    (start, "socket", "EAFNOSUPPORT", "1+", "port "),
    (start_at_one_address, "socket", "EAFNOSUPPORT", "1", "port "),
    (start_at_one_address, "setsockopt", "EINVAL", "1", "port "),
    (waiting, "socket bind", "EADDRNOTAVAIL ENFILE", "3..9", SERVES),
    (start, "getsockname write", "EBADF EINTR EIO", "each 1+", SERVES),
    (start, "ioctl", "EBADF EINTR EIO", "1 1+", SERVES),
    (start, "close", "EBADF EINTR EIO", "1", SERVES),
    (start, "setgroups setgid", "EAGAIN EPERM", "1 1+", "-u 65534"),
    (start, "setuid", "EAGAIN EPERM pretence", "1 1+", KEPT),
    (start, "setuid", "EAGAIN EPERM", "2", SERVES),
    (start, "brk mmap", "ENOMEM", "each 1+", MEMORY),
    (start, "accept", "EBADF EINVAL ENOTSOCK", "1+", "accept"),
    (start, "poll", "EFAULT EINVAL", "1+", "poll"),
    (serving, "close", "EBADF EINTR EIO", "1 3 1+", 1),
    (serving, "shutdown", "EBADF ENOTCONN", "1 3 1+", 0),
    (serving, "accept", "EMFILE", "1 1+ 3+", 1),
    (serving, "accept", "EAGAIN ECONNABORTED ENFILE ENOMEM EPERM", "1 3 1+ 3+", 0),
    (serving, "accept," + SLEEP, "EFAULT EINTR", "1..60", 0),
    (serving, "poll", "EAGAIN ENOMEM", "1 3 1+", 0),
    (serving, "poll", "EINTR", "1 3", 0),  # A signal ends one call, not all.
    (serving, "recvfrom sendto", "EAGAIN EINTR ENOBUFS ENOMEM", "1 3 1+ 3+", 0),
    (serving, "recvfrom sendto", "ECONNRESET ENOTCONN EPIPE", "1 3 1+ 3+", 1),
    (stopping, "accept", "ECONNABORTED EINTR ENOMEM EPERM", "1", 0),
    (stopping, "poll", "EINTR", "1 3", 0),
    (stopping, "poll", "ENOMEM", "1 1+ 7+", 1),
    (stopping, "accept recvfrom sendto shutdown close write", "EINTR ENOMEM", "1 1+ 7+", 1),
]
CANNOT_FAIL = """exit_group geteuid getpgrp lseek munmap newfstatat restart_syscall rt_sigaction
    rt_sigprocmask rt_sigreturn"""

def cases():
    """Yields each case: its name, and the function with its arguments."""
    def calls(text):
        return collections.Counter(re.findall(r"(?m)^[\d.]+ (\w+)\(", text))
    with Maintd(Fault("all")) as maintd:
        assert maintd.serves(), "it does not start"
        eventually(lambda: maintd.fault.lines("poll(") > 1, "it does not end a round")
        maintd.stop()
    log = maintd.fault.log.read_text()
    begin = log.rindex("\n", 0, log.index('"page", O_RDONLY'))  # main() begins with the page.
    before, places = calls(log[:begin]), calls(log[begin:])
    named = " ".join([CANNOT_FAIL, *(row[1] for row in TABLE)])
    assert places.keys() <= set(re.split(r"[\s,]+", named)), f"the table lacks some of {places}"
    for judge, names, errors, moments, expected in TABLE:
        for name, error, moment in itertools.product(*map(str.split, (names, errors, moments))):
            for each in range(1, places[name] + 1) if moment == "each" else [moment]:
                add = before[name] if judge == start else 0
                when = re.sub(r"\d+", lambda number: str(int(number[0]) + add), str(each))
                yield f"{judge.__name__}: {name} {error} {each}", judge, name, error, when, expected

if os.geteuid() != 0 or not shutil.which("strace"):
    sys.exit("faults: needs strace, and root, because only root can give up root")
began, failures = time.monotonic(), 0
chosen = [case for case in cases() if case[0].startswith(" ".join(sys.argv[1:]))]
with concurrent.futures.ThreadPoolExecutor(24) as pool:  # They wait most of the time.
    futures = {pool.submit(*case): name for name, *case in chosen}
    for future, name in futures.items():
        if future.exception():
            failures += 1
            print(f"FAIL {name}: {future.exception()!r}", flush=True)
print(f"{len(futures)} cases, {failures} failed, {time.monotonic() - began:.0f} s")
sys.exit(failures > 0)
