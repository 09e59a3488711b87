"""Every system call that maintd makes fails here, at each place, once and lastingly, with each
error that its Linux manual page names. strace injects the faults, and so reaches a static binary,
too. $MAINTD names the binary. Run by root, because only root gives up root.

At start: one clear line and exit status 1, or maintd does without the call. While serving: nothing
ends it, makes it spin or leak, and no visitor is lost but the one whose own connection failed.

usage: faults.py [-x] [start|special|serving|stopping]...    -x: end at the first failure
"""
import concurrent.futures, contextlib, errno, fcntl, os, pathlib, pty, re, resource, selectors
import socket, subprocess, sys, tempfile, termios, threading, time

MAINTD = os.path.abspath(os.environ.get("MAINTD", "./maintd"))
FOLDER = tempfile.TemporaryDirectory()
WORK = pathlib.Path(FOLDER.name)
WORK.chmod(0o755)
PAGES = {"small": b"p" * 4000, "large": b"P" * (1 << 20)}
for name, body in PAGES.items():
    (WORK / name).write_bytes(body)

# What section 2 of the Linux manual names, without the E. EWOULDBLOCK is EAGAIN. accept() may also
# fail with the errors of one client's network, which Linux passes through.
NAMED = {}
for line in re.sub(r"\n +", " ", """\
fcntl: ACCES AGAIN BADF BUSY DEADLK FAULT INTR INVAL MFILE NOLCK NOTDIR PERM
openat: ACCES BADF BUSY DQUOT EXIST FAULT FBIG INTR INVAL ISDIR LOOP MFILE NAMETOOLONG NFILE NODEV
    NOENT NOMEM NOSPC NOTDIR NXIO OPNOTSUPP OVERFLOW PERM ROFS TXTBSY
dup2: BADF BUSY INTR MFILE
read: AGAIN BADF FAULT INTR INVAL IO ISDIR
rt_sigaction: FAULT INVAL
socket: ACCES AFNOSUPPORT INVAL MFILE NFILE NOBUFS NOMEM PROTONOSUPPORT
setsockopt: BADF FAULT INVAL NOPROTOOPT NOTSOCK NOMEM
bind: ACCES ADDRINUSE ADDRNOTAVAIL BADF FAULT INVAL LOOP NAMETOOLONG NODEV NOENT NOMEM NOTDIR
    NOTSOCK ROFS
listen: ADDRINUSE BADF NOTSOCK OPNOTSUPP
getsockname: BADF FAULT INVAL NOBUFS NOTSOCK
setgroups: FAULT INVAL NOMEM PERM
setgid: INVAL PERM
setuid: AGAIN INVAL PERM
accept: AGAIN CONNABORTED INTR PERM PROTO OPNOTSUPP NETDOWN NOPROTOOPT HOSTDOWN NONET HOSTUNREACH
    NETUNREACH NOSR SOCKTNOSUPPORT PROTONOSUPPORT TIMEDOUT MFILE NFILE NOBUFS NOMEM
poll: INTR NOMEM AGAIN
recvfrom: AGAIN INTR NOBUFS NOMEM BADF CONNREFUSED FAULT INVAL NOTCONN NOTSOCK TIMEDOUT CONNRESET
sendto: AGAIN INTR NOBUFS NOMEM ACCES ALREADY BADF CONNRESET DESTADDRREQ FAULT INVAL ISCONN
    MSGSIZE NOTCONN NOTSOCK OPNOTSUPP PIPE TIMEDOUT
shutdown: BADF INVAL NOTCONN NOTSOCK
close: BADF INTR IO NOSPC DQUOT
write: AGAIN BADF DESTADDRREQ DQUOT FAULT FBIG INTR INVAL IO NOSPC PERM PIPE
ioctl: BADF FAULT INVAL NOTTY IO
clock_nanosleep: FAULT INTR INVAL
brk: NOMEM
mmap: ACCES AGAIN BADF INVAL MFILE NFILE NODEV NOMEM OVERFLOW PERM TXTBSY
munmap: INVAL""").splitlines():
    call, names = line.split(": ")
    NAMED[call] = ["E" + name for name in names.split()]
SHORTAGES = ["EMFILE", "ENFILE", "ENOBUFS", "ENOMEM"]
TRY_AGAIN = ["EAGAIN", "EINTR", "ENOBUFS", "ENOMEM"]
FATAL = {"accept": ["EBADF", "EINVAL", "ENOTSOCK"], "poll": ["EFAULT", "EINVAL"]}
CANNOT_FAIL = {"geteuid", "getpgrp", "exit_group", "rt_sigreturn", "restart_syscall"}

def expect(condition, otherwise):
    if not condition:
        raise AssertionError(otherwise)

def eventually(condition):
    end = time.monotonic() + 10
    while not (result := condition()) and time.monotonic() < end:
        time.sleep(0.005)
    return result

def message(error):
    return os.strerror(getattr(errno, error))

class Trace:
    """strace's options for a fault, and what its log says of it."""
    made, injected, lock = 0, 0, threading.Lock()

    def __init__(self, call, error=None, when="1+"):
        with Trace.lock:
            Trace.made += 1
            self.log = WORK / f"strace-{Trace.made}"
        self.options = ["-q", "-o", str(self.log), "-e", f"trace={call},poll"]
        if error is not None:  # A brk() that fails returns the former end; 0 is as good.
            result = error if "=" in error else "retval=0" if call == "brk" else "error=" + error
            result += ":signal=SIGPIPE" if error == "EPIPE" else ""
            self.options += ["-e", f"inject={call}:{result}:when={when}"]

    def lines(self, part="(INJECTED)"):
        return self.log.read_text().count(part) if self.log.exists() else 0

    @contextlib.contextmanager
    def attached(self, server):
        """Lets the call of a running server fail until the end of the block."""
        strace = subprocess.Popen(["strace", *self.options, "-p", str(server.pid)],
                                  stderr=subprocess.DEVNULL)
        try:
            expect(eventually(lambda: server.status("TracerPid") != "0"), "strace does not attach")
            yield self
        finally:
            strace.terminate()
            strace.wait()
            self.close()

    def close(self):
        with Trace.lock:
            Trace.injected += self.lines() > 0

# ---- The server and its visitors ----------------------------------------------------------------

class Server:
    """A maintd on a free port. `trace` runs it from its start; without one it has to serve."""

    def __init__(self, page="small", trace=None, options=(), env=None, stderr=subprocess.PIPE,
                 prepare=None):
        self.page, self.trace = PAGES[page], trace
        command = [MAINTD, "-p", "0", *options, str(WORK / page)]
        self.process = subprocess.Popen(
            ["strace", "-D", *trace.options, *command] if trace else command, env=env,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=stderr, preexec_fn=prepare)
        self.pid = self.process.pid

    def __enter__(self):
        expect(self.trace or self.serves(), "it does not start")
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.communicate()

    def port_of_listener(self):
        """The line that names the port may have failed."""
        opened = pathlib.Path(f"/proc/{self.pid}/fd").iterdir()
        opened = {os.readlink(each) for each in opened}
        for table in ("tcp", "tcp6"):
            for line in pathlib.Path("/proc/net", table).read_text().splitlines():
                fields = line.split()
                if fields[3] == "0A" and f"socket:[{fields[9]}]" in opened:
                    return int(fields[1].rpartition(":")[2], 16)
        raise FileNotFoundError

    def serves(self):
        """Waits until it answers. Returns whether it does; it may also have ended."""
        def answers():
            answer = b""
            with contextlib.suppress(OSError):
                self.port = self.port_of_listener()
                with socket.create_connection(("127.0.0.1", self.port), 10) as client:
                    client.sendall(b"HEAD / HTTP/1.1\r\n\r\n")
                    answer = client.recv(999)
                    client.settimeout(1)  # for the end, which does not come if close() fails
                    client.recv(1)
            return answer or self.process.poll() is not None
        expect(eventually(answers), "it neither serves nor ends")
        return self.process.poll() is None

    def status(self, field):
        text = pathlib.Path(f"/proc/{self.pid}/status").read_text()
        return re.search(rf"^{field}:\s*(.*?)\s*$", text, re.MULTILINE).group(1)

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def end(self):
        """Waits for its end. Returns the exit status and what it said."""
        try:
            output, said = self.process.communicate(timeout=10)
        except subprocess.TimeoutExpired:
            raise AssertionError("it does not end") from None
        expect(not output, "it writes to standard output")
        if self.trace:
            expect(eventually(lambda: self.trace.lines("+++ ")), "strace does not end")
            self.trace.close()
        return self.process.returncode, (said or b"").decode()

    def stop(self):
        self.process.terminate()
        status, said = self.end()
        expect(status == 0, f"it is stopped and ends with {status}")
        return said

    def refuses(self, what, why):
        """Expects one clear line and exit status 1."""
        status, said = self.end()
        line = rf"(?:maintd: serving.*\n)?maintd: .*{re.escape(what)}.*: {re.escape(why)}.*\n"
        expect(status == 1 and re.fullmatch(line, said), f"status {status}, it says {said!r}")

class Visitors:
    """Six clients that bring their connections into every state."""
    get = b"GET / HTTP/1.1\r\nHost: example\r\n\r\n"
    first = {"plain": get, "HEAD": b"HEAD" + get[3:], "half-closed": b"GET / HTTP/1.1\r\n",
             "two pieces": b"GE", "slow": get,
             "upload": b"POST / HTTP/1.1\r\nContent-Length: 300000\r\n\r\n"}

    def __init__(self, server):
        self.page, self.sockets = server.page, {}
        for name, sent in self.first.items():
            client = self.sockets[name] = socket.socket()
            if name == "slow":
                client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.settimeout(10)
            client.connect(("127.0.0.1", server.port))
            client.sendall(sent)
        with contextlib.suppress(OSError):  # a reset
            self.sockets["half-closed"].shutdown(socket.SHUT_WR)

    def is_whole(self, name, got):
        header, _, body = got.partition(b"\r\n\r\n")
        length = b"\r\nContent-Length: %d\r\n" % len(self.page)
        return (header.startswith(b"HTTP/1.1 503 ") and length in header + b"\r\n" and
                body == (b"" if name == "HEAD" else self.page))

    def lost(self, patience=10):
        """Finishes the requests. Returns who does not get a whole response and a clean end."""
        for name, rest in (("upload", b"u" * 300000), ("two pieces", b"T" + self.get[3:])):
            with contextlib.suppress(OSError):
                self.sockets[name].sendall(rest)
        got = {name: b"" for name in self.sockets}
        lost = set(got)
        with selectors.DefaultSelector() as open_ones:
            for name, client in self.sockets.items():
                open_ones.register(client, selectors.EVENT_READ, name)
            end = time.monotonic() + patience
            while open_ones.get_map() and time.monotonic() < end:
                for key, _ in open_ones.select(end - time.monotonic()):
                    piece = None
                    with contextlib.suppress(OSError):
                        piece = key.fileobj.recv(1 << 20)
                    got[key.data] += piece or b""
                    if not piece:
                        open_ones.unregister(key.fileobj)
                        if piece is not None and self.is_whole(key.data, got[key.data]):
                            lost.remove(key.data)
        for client in self.sockets.values():
            client.close()
        return lost

def expect_visitors(server, allowed=0):
    lost = Visitors(server).lost()
    expect(len(lost) <= allowed, f"visitors are lost: {lost}")

def expect_calm(trace):
    """It may try again every 10 ms. If it spins, it polls some thousand times a second."""
    for _ in range(3):
        before = trace.lines("poll(")
        time.sleep(0.2)  # the time in which it is watched
        polls = trace.lines("poll(") - before
        if polls < 60:
            return
    raise AssertionError(f"it polls {polls} times in 0.2 s")

# ---- At start -----------------------------------------------------------------------------------

# What maintd does without, and what its line names where it does not.
WITHOUT = re.compile(r"fcntl\(\d, F_GETFD|ioctl|dup2|close|munmap|write|setuid\(0\)|setgid\(0\)")
SUBJECTS = [(r"fcntl\(\d+, F_SETFL, O_RDONLY\)|openat|read", str(WORK)), ("mmap|brk", "memory"),
            ("socket|setsockopt|bind|listen|getsockname|fcntl", "port "),
            ("set.*id|setgr", "-u 65534"), ("rt_sigaction", "sigaction")]

def start_calls():
    """Returns the calls of a start, from main() to the first poll(), each with its number."""
    trace = Trace("all")
    with Server(trace=trace) as server:
        expect(server.serves(), "it does not start")
        server.stop()
    calls, seen, in_main = [], {}, False
    for line in trace.log.read_text().partition("\npoll(")[0].splitlines():
        name = line.partition("(")[0]
        seen[name] = seen.get(name, 0) + 1
        in_main = in_main or line.startswith("fcntl(0, F_GETFD")
        if in_main and name not in CANNOT_FAIL:
            calls.append((name, seen[name], line))
    return calls

def fail_at_start(call, error, when, lines):
    """Lets the call fail where the start's trace has these lines."""
    trace, once = Trace(call, error, when), "+" not in when
    line = next((each for each in lines if not WITHOUT.match(each)), lines[0])
    what = next((subject for each, subject in SUBJECTS if re.match(each, line)), call)
    with Server(trace=trace) as server:
        if not server.serves():
            expect(not WITHOUT.match(line), "it could do without")
            return server.refuses(what, message(error))
        fallback = once and what == "port " and error == "EAFNOSUPPORT"
        expect(WITHOUT.match(line) or what == "memory" or fallback, "it serves nonetheless")
        if call != "close" or once:
            expect_visitors(server, call == "close")
        expect(trace.lines(), "no fault was injected")
        expect(server.status("Uid").split() == ["65534"] * 4, "it is still root")
        server.stop()

def start():
    calls = start_calls()
    for call, number, line in calls:
        lines = [line for name, other, line in calls if name == call and other >= number]
        for error in NAMED[call]:
            yield f"{line}: {error}, once", fail_at_start, call, error, f"{number}", lines[:1]
            yield f"{line}: {error}, lastingly", fail_at_start, call, error, f"{number}+", lines

# ---- While serving, and while stopping ----------------------------------------------------------

# At how many places a call fails.
PLACES = {"shutdown": 3, "close": 6, "accept": 6, "poll": 2, "recvfrom": 6, "sendto": 6, "write": 0}

def allowed(call, error):
    """How many visitors a fault may cost. A shortage in accept() evicts the oldest one."""
    passing = {"accept": error not in SHORTAGES, "close": False, "poll": True, "shutdown": True}
    return 0 if passing.get(call, error in TRY_AGAIN) else 1

def fail_with_visitors(call, error, when, stopping):
    lasting = "+" in when
    with Server("small" if call == "accept" else "large") as server:
        before, lost = server.descriptors(), None
        if stopping:
            visitors = Visitors(server)
            expect(eventually(lambda: server.descriptors() >= before + 2), "nobody is accepted")
        with Trace(call, error, when).attached(server) as trace:
            if stopping:
                server.process.terminate()
            else:
                visitors = Visitors(server)
            if not lasting or stopping or call in ("shutdown", "close"):
                lost = visitors.lost(2 if call == "close" else 10)
            if not stopping:
                expect(eventually(trace.lines), "no fault was injected")
            if lasting and not stopping:
                expect_calm(trace)
        lost = visitors.lost() if lost is None else lost
        expect(len(lost) <= (stopping or allowed(call, error)) or
               lasting and (stopping or allowed(call, error)), f"visitors are lost: {lost}")
        if not stopping:  # strace's close() leaves the descriptor open.
            expect(eventually(lambda: server.descriptors() <= before + trace.lines("close(")),
                   "descriptors leak")
            expect_visitors(server)
        server.stop()

def fail_fatally(call, error):
    with Server() as server, Trace(call, error).attached(server):
        with contextlib.suppress(OSError):
            Visitors(server)
        server.refuses(call, message(error))

def with_visitors(stopping):
    for call, places in PLACES.items():
        moments = ["1", "2"] if stopping else [str(each + 1) for each in range(places)]
        moments += ["3+"] if not stopping and call in ("accept", "recvfrom", "sendto") else []
        for error in NAMED[call]:
            for when in moments + ["1+"] * (stopping or places > 0):
                # accept() cannot report EAGAIN for long when poll() has reported a client.
                if (call, error) != ("accept", "EAGAIN") or not stopping and "+" not in when:
                    name = f"{call}, {error}, {when}"
                    yield name, fail_with_visitors, call, error, when, stopping

# ---- Special cases ------------------------------------------------------------------------------

def wait_for_port(call, when):
    """With -w it tries again while the port is in use."""
    trace = Trace(call, "EADDRINUSE", when)
    with Server(trace=trace, options=["-w"]) as server:
        if when == "1+":
            expect(eventually(lambda: trace.lines() > 3), "it does not try again")
        else:
            expect(server.serves() and trace.lines() == 20, "it has not tried 20 times")
            expect_visitors(server)
        expect("maintd: waiting for port " in server.stop(), "it does not say that it waits")

def sleep_fails(error):
    """The sleep fails while it waits for the port, and where accept() goes on failing."""
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]
        trace = Trace("clock_nanosleep,nanosleep", error)
        with Server(trace=trace, options=["-w", "-p", str(port)]) as server:
            expect(eventually(lambda: trace.lines() > 3), "it does not try again")
            holder.close()
            expect(server.serves(), "it does not start")
            expect_visitors(server)
            server.stop()
    with Server() as server:
        with Trace("accept,clock_nanosleep,nanosleep", "EINTR").attached(server) as trace:
            visitors = Visitors(server)
            expect(eventually(lambda: trace.lines("nanosleep") > 3), "it does not sleep")
        expect(not visitors.lost(), "visitors are lost")
        server.stop()

def closed_input(error, last):
    """Where descriptor 0 is closed, "/" replaces a /dev/null that cannot be opened."""
    number = next(number for name, number, line in start_calls() if name == "openat")
    trace = Trace("openat", error, f"{number}..{number + last}")
    with Server(trace=trace, prepare=lambda: os.close(0)) as server:
        if last == 1:
            return server.refuses("/dev/null", message(error))
        expect(server.serves(), "it does not start")
        expect_visitors(server)
        server.stop()

def pretend_to_give_up_root():
    number = next(number for name, number, line in start_calls() if name == "setuid")
    with Server(trace=Trace("setuid", "retval=0", f"{number}+")) as server:
        server.refuses("-u 65534", "root could be regained")

def terminal_fails(call, error, when):
    """Nothing that becomes of the count on the terminal ends the server."""
    screen, line = pty.openpty()

    def take_terminal():
        os.setsid()
        fcntl.ioctl(line, termios.TIOCSCTTY, 0)

    with Server(stderr=line, prepare=take_terminal) as server:
        with Trace(call, error, when).attached(server) as trace:
            def shown():
                expect_visitors(server)
                return trace.lines()
            expect(eventually(shown), "no fault was injected")
            expect_calm(trace)
        expect_visitors(server)
        server.stop()
    os.close(screen)
    os.close(line)

def one_byte_at_a_time():
    environment = {**os.environ, "LD_PRELOAD": os.path.abspath("test/proof/one_byte.so")}
    with Server(env=environment) as server:
        expect("one_byte" in pathlib.Path(f"/proc/{server.pid}/maps").read_text(), "no preload")
        expect_visitors(server)
        said = server.stop()
        expect(re.fullmatch(r"maintd: serving .*\nmaintd: [67] requests .*s\n", said), said)

def little_memory():
    """From too little memory for the loader up to enough: never more than one clear line."""
    outcomes = set()
    for kilobytes in range(1000, 60000, 400):
        limit = (kilobytes << 10,) * 2
        server = Server("large", prepare=lambda: resource.setrlimit(resource.RLIMIT_AS, limit))
        with server.process:
            if server.serves():
                server.stop()
                outcomes.add("serves")
                break
            status, said = server.end()
            if said == "maintd: memory: Cannot allocate memory\n" and status == 1:
                outcomes.add("refuses")
            elif status != 127:  # which is the C library's, before main()
                outcomes.add(f"{status}, {said}")
    expect(outcomes == {"refuses", "serves"}, f"outcomes: {outcomes}")

def no_memory_while_serving():
    with Server("large") as server, Trace("brk,mmap", "ENOMEM").attached(server):
        expect_visitors(server)
        server.stop()

def special():
    for call, named in FATAL.items():
        for error in named:
            yield f"fatal: {call}, {error}", fail_fatally, call, error
    for call in ("bind", "listen"):
        for when in ("1..20", "1+"):
            yield f"-w, {call}, {when}", wait_for_port, call, when
    for error in NAMED["clock_nanosleep"]:
        yield f"the sleep, {error}", sleep_fails, error
    for error in NAMED["openat"]:
        for last in (0, 1):
            yield f"closed input, openat, {error}, {last + 1} times", closed_input, error, last
    for call in ("write", "ioctl"):
        for error in NAMED[call]:
            for when in ("1", "1+"):
                yield f"a terminal, {call}, {error}, {when}", terminal_fails, call, error, when
    yield "root is given up in pretence", pretend_to_give_up_root
    yield "little memory", little_memory
    yield "no memory while serving", no_memory_while_serving
    if os.path.basename(MAINTD) == "maintd":
        yield "one byte at a time", one_byte_at_a_time

def main():
    sections = {"start": start(), "special": special(),
                "serving": with_visitors(False), "stopping": with_visitors(True)}
    arguments = sys.argv[1:]
    failures = 0
    for section in [each for each in arguments if each != "-x"] or sections:
        began = time.monotonic()
        with concurrent.futures.ThreadPoolExecutor(12) as pool:
            futures = {pool.submit(*case): name for name, *case in sections[section]}
            for future in concurrent.futures.as_completed(futures):
                if not future.cancelled() and future.exception():
                    failures += 1
                    print(f"FAIL {section}: {futures[future]}: {future.exception()!r}", flush=True)
                    pool.shutdown(cancel_futures="-x" in arguments)
        print(f"{section}: {len(futures)} cases, {time.monotonic() - began:.0f} s", flush=True)
        if failures and "-x" in arguments:
            break
    print(f"{Trace.injected} different faults were injected, {failures} cases failed")
    sys.exit(failures > 0)

main()
