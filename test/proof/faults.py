"""Every system call of maintd fails here: at start, while it serves, and while it stops. The errors
are those that the program tells apart, and two or three of those that it treats alike. strace
injects them, and so reaches a static binary, too. $MAINTD names the binary. Run it as root.

At start maintd prints one clear line and exits with 1, or it does without the call. Later nothing
ends it, makes it spin or leak, and no client is lost but the one whose own connection failed.

usage: faults.py [-x] [text]...    -x: end at the first failure; text: how a case's name begins
"""
import collections, concurrent.futures, contextlib, errno, fcntl, itertools, os, pathlib, pty, re
import select, shutil, socket, subprocess, sys, tempfile, termios, time

MAINTD = os.path.abspath(os.environ.get("MAINTD", "./maintd"))
FOLDER = tempfile.TemporaryDirectory()
BODY = b"p" * 300_000  # takes several calls to read and to send
PAGE = pathlib.Path(FOLDER.name, "page")
PAGE.write_bytes(BODY)
PATIENCE = 30  # seconds, which are enough on a busy machine, too
socket.setdefaulttimeout(PATIENCE)
SERVES, MEMORY = "serves", "memory: "
SLEEP = "clock_nanosleep,nanosleep"

def eventually(condition, otherwise):
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, otherwise
        time.sleep(0.005)

class Fault:
    """strace's options that make calls fail, and its log. `when` is strace's: "2", "1..3", "2+"."""
    numbers = itertools.count()

    def __init__(self, call, error="", when="1+"):
        self.log = pathlib.Path(FOLDER.name, f"strace-{next(Fault.numbers)}")
        self.options = ["-q", "-o", str(self.log), "-e", f"trace={call},{SLEEP}"]
        self.why = os.strerror(getattr(errno, error)) if error.startswith("E") else ""
        if error:  # A brk() that fails returns the former end; 0 is as good.
            result = "retval=0" if call == "brk" or not self.why else f"error={error}"
            signal = ":signal=SIGPIPE" if error == "EPIPE" else ""
            self.options += ["-e", f"inject={call}:{result}{signal}:when={when}"]

    def lines(self, part="(INJECTED)"):
        return self.log.read_text().count(part) if self.log.exists() else 0

    @contextlib.contextmanager
    def attached(self, server):
        """Makes the calls of a running server fail until the end of the block."""
        command = ["strace", *self.options, "-p", str(server.process.pid)]
        with subprocess.Popen(command, stderr=subprocess.DEVNULL) as strace:
            try:
                eventually(lambda: server.status("TracerPid") != "0", "strace does not attach")
                yield self
            finally:
                strace.terminate()

class Server:
    """A maintd. With a fault it runs under strace from its start; without one it has to serve."""

    def __init__(self, fault=None, *options, port_in_use=False, **process):
        self.fault, self.holder = fault, socket.socket()
        # Nobody else gets this port. Before listen(), a socket with SO_REUSEADDR may bind it, too.
        self.holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.holder.bind(("127.0.0.1", 0))
        if port_in_use:
            self.holder.listen()
        self.address = self.holder.getsockname()
        strace = ["strace", "-D", *fault.options] if fault else []
        streams = dict(stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        command = [*strace, MAINTD, "-p", str(self.address[1]), *options, PAGE]
        self.process = subprocess.Popen(command, **streams | process)

    def __enter__(self):
        if not self.fault:
            assert self.serves(), "it does not start"
            self.before = self.descriptors()
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.communicate()

    def serves(self):
        """Waits until it answers, or has ended. Returns whether it answers."""
        def answers():
            answer = b""
            with contextlib.suppress(OSError), socket.create_connection(self.address, 5) as client:
                client.sendall(b"HEAD / HTTP/1.1\r\n\r\n")
                answer = client.recv(999)
                client.recv(1)  # waits for its end, which does not come if the server leaks it
            return answer or self.process.poll() is not None
        eventually(answers, "it neither serves nor ends")
        return self.process.poll() is None

    def status(self, field):
        text = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return re.search(rf"^{field}:\s*(.*?)\s*$", text, re.MULTILINE).group(1)

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def ends(self, status, pattern):
        """Waits for its end, and strace's. Expects this status and these lines."""
        said = self.process.communicate(timeout=PATIENCE)[0].decode()
        result = self.process.returncode
        assert result == status and re.fullmatch(pattern, said), f"it ends with {result}: {said}"

    def stop(self, pattern=r"(maintd: .*\n)*"):
        self.process.terminate()
        self.ends(0, pattern)

GET = b"GET / HTTP/1.1\r\nHost: example\r\n\r\n"
REQUESTS = {"plain": (GET, b""), "HEAD": (b"HEAD" + GET[3:], b""), "slow": (GET, b""),
            "half-closed": (b"GET / HTTP/1.1\r\n", b""), "two pieces": (GET[:2], GET[2:]),
            "upload": (b"POST / HTTP/1.1\r\nContent-Length: 300000\r\n\r\n", b"u" * 300_000)}

def expect_clients(server, call=None, cost=0, before_the_rest=lambda: None):
    """Six clients bring their connections into every state. Each, but for so many as the cost, has
    to get a whole response and then its end. The end does not come if close() fails."""
    lost, clients = [], {name: socket.socket() for name in REQUESTS}
    clients["slow"].setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    for name, client in clients.items():
        client.connect(server.address)
        client.sendall(REQUESTS[name][0])
    with contextlib.suppress(OSError):  # a reset
        clients["half-closed"].shutdown(socket.SHUT_WR)
    before_the_rest()
    for name, client in clients.items():
        with contextlib.suppress(OSError):
            client.sendall(REQUESTS[name][1])
    for name, client in clients.items():
        got, piece = b"", None
        client.settimeout(2 if call == "close" or len(lost) > cost else PATIENCE)
        with client, contextlib.suppress(OSError):
            while piece != b"":
                piece = client.recv(1 << 20)
                got += piece
        end = b"\r\nContent-Length: 300000\r\n\r\n" + (b"" if name == "HEAD" else BODY)
        if piece != b"" or not got.startswith(b"HTTP/1.1 503 ") or not got.endswith(end):
            lost.append(name)
    assert len(lost) <= cost, f"clients are lost: {lost}"

# ---- What is judged. Each function takes a call, its error, when it fails, and what is expected --

def start(call, error, when, expected, **process):
    """Expects a part of the one line, or SERVES. Where memory fails, both are right."""
    fault = Fault(call, error, when)
    with Server(fault, **process) as server:
        if not server.serves():
            line = f"maintd: .*{re.escape(expected)}.*{re.escape(fault.why)}.*\n"
            return server.ends(1, f"(maintd: serving .*\n)?{line}")
        assert expected in (SERVES, MEMORY), "it serves nonetheless"
        expect_clients(server)
        assert server.status("Uid").split() == ["65534"] * 4, "it is still root"
        server.stop()
        assert fault.lines(), "no fault was injected"

def closed_input(*case):
    """Where descriptor 0 is closed, "/" replaces a /dev/null that cannot be opened."""
    start(*case, preexec_fn=lambda: os.close(0))

def waiting(call, error, when, expected):
    """With -w it tries again while the port is in use, even if it cannot sleep."""
    with Server(Fault(call, error, when), "-w", port_in_use="sleep" in call) as server:
        eventually(lambda: server.fault.lines() > 3, "it does not try again")
        server.holder.close()
        if expected == SERVES:
            assert server.serves(), "it does not start"
            expect_clients(server)
        server.stop(r"maintd: waiting for port .*\n(maintd: .*\n)*")

def serving(call, error, when, cost, **process):
    """Expects that one fault costs so many clients at most."""
    with Server(**process) as server:
        with Fault(call, error, when).attached(server) as fault:
            expect_clients(server, call, cost if when.isdigit() else cost * len(REQUESTS))
            eventually(fault.lines, "no fault was injected")
        sleeps = fault.lines("sleep(")  # Each ends a round, in which each client may fail.
        assert fault.lines() <= 10 * (sleeps + 1), f"{fault.lines()} faults, {sleeps} sleeps"
        left = server.before + fault.lines("close(")  # strace's close() leaves its descriptor open.
        eventually(lambda: server.descriptors() <= left, "descriptors leak")
        expect_clients(server)
        server.stop()

def terminal(*case):
    """Nothing that becomes of the count on the terminal ends the server."""
    screen, line = pty.openpty()
    with os.fdopen(screen), os.fdopen(line):
        serving(*case, stderr=line, start_new_session=True,
                preexec_fn=lambda: fcntl.ioctl(line, termios.TIOCSCTTY, 0))

def stopping(call, error, when, cost):
    """A stopped server ends by itself, whatever fails. Expects the cost as serving() does."""
    cost = cost if when.isdigit() else len(REQUESTS)
    with Server() as server, Fault(call, error, when).attached(server):
        expect_clients(server, call, cost, server.process.terminate)
        server.stop()

def evicting(call, error, when, expected):
    """A shortage makes room: the oldest client is answered before its request has ended."""
    with Server() as server, socket.create_connection(server.address) as oldest:
        oldest.sendall(b"GE")
        eventually(lambda: server.descriptors() > server.before, "nobody is accepted")
        with Fault(call, error, when).attached(server) as fault:
            expect_clients(server)
            assert fault.lines(), "no fault was injected"
        answered = oldest in select.select([oldest], [], [], 0)[0] and oldest.recv(12)
        assert answered == (expected and b"HTTP/1.1 503"), f"the oldest client gets {answered}"
        server.stop()

def one_byte_at_a_time():
    library = os.path.abspath("test/proof/one_byte.so")
    with Server(env={**os.environ, "LD_PRELOAD": library}) as server:
        assert library in pathlib.Path(f"/proc/{server.process.pid}/maps").read_text(), "no preload"
        expect_clients(server)
        server.stop(r"maintd: serving .*\nmaintd: [67] requests .*s\n")

SHORTAGES = "EMFILE ENFILE ENOBUFS ENOMEM"
OTHERS = "ECONNABORTED ENETDOWN EPERM"

# What is judged, the calls, their errors, which of the calls fail, and what is expected. The start
# counts from the beginning of main(), and "each" means each call of a server that is soon stopped.
TABLE = [
    (start, "fcntl", "EBADF EMFILE", "1 2 3", SERVES),
    (start, "fcntl", "EBADF EINTR", "4 1+", "page '"),
    (start, "fcntl", "EBADF EINTR", "5", "port "),
    (start, "openat read", "EACCES EINTR EIO", "each 1+", "page '"),
    (start, "rt_sigaction", "EFAULT EINVAL", "each", "sigaction"),
    (start, "socket setsockopt bind listen getsockname", "EACCES EINVAL ENOBUFS", "each", "port "),
    (start, "socket", "EAFNOSUPPORT", "1", SERVES),  # without IPv6
    (start, "socket", "EAFNOSUPPORT", "1+", "port "),
    (start, "ioctl dup2 munmap write", "EBADF EINTR EIO", "each 1+", SERVES),
    (start, "close", "EBADF EINTR EIO", "1", SERVES),
    (start, "setgroups setgid setuid", "EAGAIN EPERM", "1 1+", "-u 65534"),
    (start, "setgid setuid", "EAGAIN EPERM", "2 2+", SERVES),
    (start, "setuid", "pretence", "1+", "-u 65534: root could be regained"),
    (start, "brk mmap", "ENOMEM", "each 1+", MEMORY),
    (start, "accept", "EBADF EINVAL ENOTSOCK", "1+", "accept"),
    (start, "poll", "EFAULT EINVAL", "1+", "poll"),
    (closed_input, "openat", "EACCES EMFILE ENOENT", "1", SERVES),
    (closed_input, "openat", "EACCES EMFILE ENOENT", "1+", "/dev/null"),
    (waiting, "bind listen", "EADDRINUSE", "1..20", SERVES),
    (waiting, "bind listen", "EADDRINUSE", "1+", "waits"),
    (waiting, SLEEP, "EFAULT EINTR", "1+", SERVES),
    (serving, "close", "EBADF EINTR EIO", "1 3 1..9", 1),
    (serving, "shutdown", "EBADF ENOTCONN", "1 3 1..9", 0),
    (serving, "accept", SHORTAGES, "1 3 1..60 3..60", 1),
    (serving, "accept", OTHERS, "1 3 1..60 3..60", 0),
    (serving, "accept," + SLEEP, "EFAULT EINTR", "1..60", 0),
    (serving, "poll", "EAGAIN EINTR ENOMEM", "1 3 1..60", 0),
    (serving, "recvfrom sendto", "EAGAIN EINTR ENOBUFS ENOMEM", "1 3 1..60 3..60", 0),
    (serving, "recvfrom sendto", "ECONNRESET ENOTCONN EPIPE", "1 3 1..60 3..60", 1),
    (terminal, "write ioctl", "EAGAIN EINTR EIO", "1 1..9", 0),
    (evicting, "accept", SHORTAGES, "1", True),
    (evicting, "accept", OTHERS + " EAGAIN", "1", False),
    (stopping, "accept poll recvfrom sendto shutdown close write", "EINTR ENOMEM", "1 1+ 7+", 1),
]
CANNOT_FAIL = "geteuid getpgrp exit_group rt_sigreturn restart_syscall"

def cases():
    """Yields each case: its name, and the function with its arguments."""
    with Server(Fault("all")) as server:
        assert server.serves(), "it does not start"
        eventually(lambda: server.fault.lines("poll(") > 1, "it does not end a round")
        server.stop()
    log = re.split(r"^(?=fcntl\(0, F_GETFD)", server.fault.log.read_text(), 1, re.MULTILINE)
    before, calls = (collections.Counter(re.findall(r"(?m)^(\w+)\(", part)) for part in log)
    tested, elsewhere = set(), set(CANNOT_FAIL.split())
    for judge, names, errors, moments, expected in TABLE:
        at_start = judge in (start, closed_input)
        elsewhere.update([] if at_start else names.split())
        for name, error, moment in itertools.product(*map(str.split, (names, errors, moments))):
            for each in range(1, calls[name] + 1) if moment == "each" else [moment]:
                tested.add(f"{name} {each}")
                add = before[name] if at_start else 0
                when = re.sub(r"\d+", lambda number: str(int(number[0]) + add), str(each))
                yield f"{judge.__name__}: {name} {error} {each}", judge, name, error, when, expected
    places = {f"{name} {i + 1}" for name in set(calls) - elsewhere for i in range(calls[name])}
    assert places <= tested, f"the table lacks {places - tested}"
    if os.path.basename(MAINTD) == "maintd":  # A static binary preloads nothing.
        yield "one byte at a time", one_byte_at_a_time

if os.geteuid() != 0 or not shutil.which("strace"):
    sys.exit("faults: needs strace, and root, because only root can give up root")
began, failures = time.monotonic(), 0
wanted = tuple(each for each in sys.argv[1:] if each != "-x") or ""
chosen = [case for case in cases() if case[0].startswith(wanted)]
with concurrent.futures.ThreadPoolExecutor(12) as pool:
    futures = {pool.submit(*case): name for name, *case in chosen}
    for future, name in futures.items():
        if not future.cancelled() and future.exception():
            failures += 1
            print(f"FAIL {name}: {future.exception()!r}", flush=True)
            pool.shutdown(wait=False, cancel_futures="-x" in sys.argv)
print(f"{len(futures)} cases, {failures} failed, {time.monotonic() - began:.0f} s")
sys.exit(failures > 0)
