#!/usr/bin/env python3
"""Roll-outs as README tells them: by its own steps, through each front end that it shows, and what
the programs that people use say about the page.

    rollout.py [row ...]           MAINTD=path tests another binary
    rollout.py --long [row ...]    an upload of 75 seconds through each front end

Each row is a process in namespaces of its own (unshare(1)): network, processes, mounts. The ports
80, 443, 8080 and 8081 are free there, /run and /var/log are empty, and everything that was started
ends with the row. That is why README's lines run as they stand, several rows run at the same time,
and the servers of this machine notice nothing.
"""

import collections
import concurrent.futures
import contextlib
import dataclasses
import json
import os
import pathlib
import re
import shlex
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time

PACKAGES = """apache2 caddy curl default-jdk-headless git golang-go haproxy hitch iproute2
    libwww-perl monitoring-plugins-basic nftables nginx libnginx-mod-stream nodejs npm openssl
    php-cli procps python3-grpcio python3-pip python3-requests python3-websockets socat squid
    stunnel4 systemd-container varnish wget"""
ROOT = pathlib.Path(__file__).resolve().parents[2]
FRONT_ENDS = ROOT / "test/proof/front_ends"
README = (ROOT / "README").read_text()
PAGE = (ROOT / "maintenance.html").read_bytes()
MAINTD = os.path.abspath(os.environ.get("MAINTD", ROOT / "maintd"))
HERE = pathlib.Path("/run/rollout")  # in a row: everything that it writes

class Broken(Exception):
    """A row cannot go on."""

class Absent(Exception):
    """A program is not installed."""

def program(name):
    found = shutil.which(name, path=os.environ["PATH"] + ":/usr/local/sbin:/usr/sbin")
    if found is None:
        raise Absent(f"{name} is not installed")
    return found

def run(*command, **options):
    """Runs a command to its end, and returns it with what it printed."""
    return subprocess.run([program(command[0]), *command[1:]], stdout=subprocess.PIPE, text=True,
                          stderr=subprocess.STDOUT, timeout=120, errors="replace",
                          **{"input": "", **options})

def eventually(happens, what, seconds=20):
    end = time.monotonic() + seconds
    while not happens():
        if time.monotonic() > end:
            raise Broken(f"waited {seconds} s in vain: {what}")
        time.sleep(0.002)

def readme_block(after):
    """Returns the first lines in README that are indented by four, after a line with `after`."""
    found = re.search(rf"^ *{after}(?:.*\n)+?((?:    .*\n|\n(?=    ))+)", README, re.M)
    if found is None:
        raise Broken(f"README has no indented lines after '{after}'")
    return re.sub(r"^    ", "", found[1], flags=re.M).lstrip("\n")

# ---- Servers ------------------------------------------------------------------------------------

class Server:
    """A program that runs until it is stopped. It listens, or has said `ready`, from the start."""

    prefix = []  # what every server is started with

    def __init__(self, *command, port=None, ready=""):
        self.name = os.path.basename(command[0])
        log = HERE / f"{self.name}-{time.monotonic_ns()}.log"
        with log.open("w") as output:
            self.process = subprocess.Popen(
                [*self.prefix, program(command[0]), *command[1:]], cwd=HERE, stdout=output,
                stderr=output, stdin=subprocess.DEVNULL)
        self.log = log.read_text
        self.wait_until(lambda: self.listens(port) and ready in self.log())

    def wait_until(self, happens):
        eventually(lambda: self.ended() or happens(), f"{self.name} is to start:\n{self.log()}")
        if self.ended():
            raise Broken(f"{self.name} did not start, or ended:\n{self.log()}")

    def listens(self, port):
        """Whether somebody listens on the port. Connecting would be a visit."""
        lines = ""
        with contextlib.suppress(OSError):  # it has ended, or there is no IPv6
            for table in ("tcp", "tcp6"):
                lines += pathlib.Path(f"/proc/{self.process.pid}/net/{table}").read_text()
        return port is None or re.search(rf":{port:04X} \S+ 0A ", lines)

    def ended(self):
        return self.process.poll() is not None

    def stop(self, number=signal.SIGTERM):
        self.process.send_signal(number)
        return self.process.wait(20)

    close = stop

def nginx(name, listen, answer="200 'the site\\n'"):
    """Starts nginx as the site, or with the answer 503 in maintd's place."""
    text = (FRONT_ENDS / "site.conf").read_text().replace("NAME", name)
    (HERE / name).write_text(text.replace("LISTEN", listen).replace("ANSWER", answer))
    port = int(re.search(r"\d+", listen)[0])
    return Server("nginx", "-p", str(HERE), "-c", name, "-g", "daemon off;", port=port)

def maintd(port, page, ready="serving"):
    (HERE / "page.html").write_bytes(page)
    return Server(MAINTD, "-w", "-p", str(port), str(HERE / "page.html"), ready=ready)

# ---- Visitors -----------------------------------------------------------------------------------

@dataclasses.dataclass
class Door:
    """Where visitors come in, and the page that they see there."""

    port: int = 80
    address: str = "127.0.0.1"
    source: str = ""  # the visitor's own address
    page: bytes = PAGE

    def connect(self):
        plain = socket.create_connection((self.address, self.port), 30, (self.source, 0))
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self.port != 443:
            return plain
        return ssl._create_unverified_context().wrap_socket(plain)

def parse(answer):
    """Returns the status line, the fields by their names in small letters, and the body."""
    header, end, body = answer.partition(b"\r\n\r\n")
    status, *lines = header.decode("latin-1").split("\r\n")
    fields = {name.lower(): value.strip() for name, _, value in (x.partition(":") for x in lines)}
    return (status, fields, body) if end else ("", {}, b"")

def visit(door, method="GET", path="/", size=0, pause=0.0, rate=0):
    """Makes one request, and returns what the visitor got: site, page, or what is wrong with it."""
    request = f"{method} {path} HTTP/1.1\r\nHost: example\r\n"
    request += f"Content-Length: {size}\r\n\r\n" if method == "POST" else "\r\n"
    steps = [b"x" * (rate // 10)] * (size * 10 // rate) if rate else [b"x" * size]
    answer = b""
    try:
        with door.connect() as connection:
            if pause or rate:
                connection.sendall(request.encode())
                for step in steps:
                    time.sleep(pause or 0.1)
                    connection.sendall(step)
            else:
                connection.sendall(request.encode() + steps[0])
            while data := connection.recv(65536):
                answer += data
                status, fields, body = parse(answer)
                length = 0 if method == "HEAD" else int(fields.get("content-length", 1e9))
                if status and len(body) >= length and fields.get("connection") != "close":
                    break
    except ConnectionRefusedError:
        return "refused"
    except OSError as error:
        return f"{type(error).__name__} after {len(answer)} bytes"
    status, fields, body = parse(answer)
    length = fields.get("content-length")
    if not status or len(body) != int(length or -1) and method != "HEAD":
        return f"{len(body)} bytes of {length or 'an answer'}"
    if method == "HEAD" and body:
        return "a body after HEAD"
    if " 200 " in status and body in (b"the site\n", b""):
        return "site"
    kept = fields.get("retry-after") == "120" and "no-store" in fields.get("cache-control", "")
    same = body == door.page or method == "HEAD" and length == str(len(door.page))
    return "page" if " 503 " in status and kept and same else f"{status[9:]} of its own"

def paths(door, *methods):
    return [visit(door, method, f"/path/{n}") for n in range(20) for method in methods]

def times(count, workers, *request):
    def cell(door):
        with concurrent.futures.ThreadPoolExecutor(workers) as pool:
            return list(pool.map(lambda _: visit(door, *request), range(count)))
    return cell

def curl(count, *options):
    """Requests that curl makes one after the other, over one connection where that is kept."""
    def cell(door):
        scheme = "https" if door.port == 443 else "http"
        answers = [HERE / f"answer{n + 1}" for n in range(count)]
        (HERE / "upload").write_bytes(b"x" * 30_000_000)
        for answer in answers:
            answer.unlink(missing_ok=True)
        said = run("curl", "-sSk", "-m60", "-o", "answer#1", "-w", "%{http_code} ", *options,
                   *["--interface", door.source][:2 * bool(door.source)],
                   f"{scheme}://{door.address}/unbuffered/[1-{count}]", cwd=HERE).stdout.strip()
        return ["page" if answer.exists() and answer.read_bytes() == door.page else said
                for answer in answers]
    return cell

MATRIX = {
    "GET": times(200, 10, "GET"),
    "HEAD": times(200, 10, "HEAD"),
    "100 B": times(200, 20, "POST", "/", 100),
    "10 kB": times(200, 20, "POST", "/", 10_000, 0.010),
    "100 kB": times(200, 20, "POST", "/", 100_000),
    "1 MB": times(200, 20, "POST", "/unbuffered", 1_000_000),
    "30 MB": curl(3, "-H", "Expect:", "-T", "upload"),
    "chunked": curl(3, "-H", "Transfer-Encoding: chunked", "-T", "upload"),
    "Expect": curl(3, "-H", "Expect: 100-continue", "-T", "upload"),
    "kept": curl(50),
    "kept P.": curl(20, "-d", "x" * 1000),
    "75 s": times(4, 4, "POST", "/", 15_000_000, 0, 200_000),  # with --long
}

class Load:
    """A few visitors who come again and again, and what each got at which time."""

    def __init__(self, door, *requests):
        self.visits = []  # (begin, end, result)
        self.over = False
        self.threads = [threading.Thread(target=self.come, args=(door, *request), daemon=True)
                        for request in requests]
        for thread in self.threads:
            thread.start()

    def come(self, *visitor):
        while not self.over:
            begin = time.monotonic()
            result = visit(*visitor)
            self.visits.append((begin, time.monotonic(), result))
            time.sleep(0.002)

    def wait_for(self, result, more=50):
        seen = len(self.visits)
        eventually(lambda: sum(visit[2] == result for visit in self.visits[seen:]) >= more,
                   f"visitors are to see the {result}")

    def end(self):
        self.over = True
        for thread in self.threads:
            thread.join()

    def between(self, begin, end):
        return [result for came, left, result in self.visits if begin <= came and left <= end]

class Report:
    """What a row found: its cells in the table, notes, and faults."""

    def __init__(self):
        self.cells, self.notes, self.faults, self.absent = {}, [], [], []

    def expect(self, results, wanted, when):
        others = collections.Counter(results)
        if not others.pop(wanted, 0) or others:
            self.faults.append(f"{when}: {len(results)} requests, not {wanted}: {dict(others)}")

    def matrix(self, door, columns, known, port, place=""):
        """Fills in the cells, with maintd on the port. What goes wrong has to be known as a fault
        of the front end, and to go wrong with nginx in maintd's place, too."""
        server = maintd(port, door.page)
        results = {name: MATRIX[name](door) for name in columns}
        if server.stop() != 0:
            self.faults.append(f"maintd ended with {server.process.returncode}:\n{server.log()}")
        for name, found in results.items():
            bad = len(found) - found.count("page")
            if 0 < bad <= len(found) // 100:  # perhaps the machine stood still
                self.notes.append(f"{name}{place}: once more, because {set(found) - {'page'}}")
                with contextlib.closing(maintd(port, door.page)):
                    found = MATRIX[name](door)
                bad = len(found) - found.count("page")
            self.cells[name + place] = f"{bad}/{len(found)}*" if bad else "ok"
            if bad:
                stand_in = nginx("stand_in", f"listen {port};", "503")
                again = []
                for _ in range(20 if name in known else 1):
                    again += MATRIX[name](door) if set(again) <= {"page"} else []
                stand_in.stop()
                text = " and with nginx in maintd's place ".join(
                    str(dict(collections.Counter(x).most_common(3))) for x in (found, again))
                own_fault = name in known and set(again) != {"page"}
                (self.notes if own_fault else self.faults).append(
                    f"{name}{place}: {text}. {known.get(name, '')}")

# ---- Front ends ---------------------------------------------------------------------------------

@dataclasses.dataclass
class Front:
    """A front end: where README shows it, and how it is started."""

    after: str  # README's line before its own lines
    command: str = ""  # without one, README's lines are the command
    frame: str = ""  # the file in front_ends/ with what it needs besides
    edits: tuple = ()  # (pattern, replacement) in turns
    notices: float = 0  # seconds after which it asks the site again
    in_place: bool = False  # the matrix again, with maintd on the site's own port
    page: bytes = PAGE
    known: dict = dataclasses.field(default_factory=dict)  # faults of its own, by column
    wrong: bool = False  # README says that a roll-out goes wrong like this

    def start(self, port):
        text = readme_block(self.after)
        if self.frame:
            text = (FRONT_ENDS / self.frame).read_text().replace("README\n", text, 1)
        for pattern, replacement in zip(self.edits[::2], self.edits[1::2]):
            text, edited = re.subn(pattern, replacement, text)
            if not edited:
                raise Broken(f"nothing to edit: {pattern}")
        (HERE / "front").write_text(text)
        return Server(*shlex.split(self.command or text), port=port)

NGINX = "nginx -p /run/rollout -c front -g 'daemon off;'"
TCP = ("mode http", "mode tcp", " *option httpchk.*\n", "")
HTTP = Front("nginx", NGINX, "nginx.conf")
HAPROXY = Front("HAProxy", "haproxy -db -f front", "haproxy.cfg", notices=1.5)
PAUSE = "After the page it ends an upload that pauses"
APACHE = Front("Apache", "apache2 -DFOREGROUND -f /run/rollout/front", "apache.conf",
               in_place=True)
RESET = "It resets an upload that it does not need"
CADDY = Front("Caddy", "caddy run --adapter caddyfile --config front", in_place=True,
              known=dict.fromkeys(("30 MB", "chunked", "Expect", "75 s"), RESET))
PROXY_PROTOCOL = {"HEAD": "maintd does not read the PROXY protocol"}
also = dataclasses.replace
PROXIES = {
    "Squid": Front("Squid", "squid -N -n maintdrollout -f front", "squid.conf",
                   known={"75 s": RESET}),
    "nginx http": HTTP,
    "nginx, max_fails": also(HTTP, edits=(" max_fails=0", ""), wrong=True),
    "nginx stream": also(HTTP, frame="stream.conf", known={"75 s": PAUSE}),
    "HAProxy http": HAPROXY,
    "HAProxy tcp": also(HAPROXY, edits=TCP),
    "HAProxy send-proxy": also(HAPROXY, edits=(*TCP, ":8080", ":8080 send-proxy"),
                               known=PROXY_PROTOCOL),
    "HAProxy send-proxy-v2": also(HAPROXY, edits=(*TCP, ":8080", ":8080 send-proxy-v2"),
                                  known=PROXY_PROTOCOL),
    "Apache": APACHE,
    "Apache, overriding": also(APACHE, edits=("Error", "ProxyErrorOverride On\nError"), wrong=True),
    "Caddy": CADDY,
    "Caddy, 100 kB": also(CADDY, page=PAGE + b" " * 100_000),
    "Caddy, any method": also(CADDY, edits=(" {\n *method GET\n *}", ""), wrong=True),
    "Varnish": Front("Varnish", "varnishd -F -a :80 -f /run/rollout/front -n /run/rollout/varnish",
                     notices=0.5, in_place=True),
}
JOINED = (r"\\\n", "")
ENDS_OF_TLS = {
    "stunnel": Front("the configuration of stunnel", "stunnel front",
                     edits=("^", "foreground = yes\n")),
    "socat": Front("Or socat, or hitch", edits=(*JOINED, "hitch.*\n", "")),
    "hitch": Front("Or socat, or hitch", edits=(*JOINED, "socat.*\n", ""), known={"75 s": PAUSE}),
}

def proxy_row(front, report, columns):
    """A roll-out behind a proxy that stays up, with maintd on a port of its own."""
    door = Door(page=front.page)
    methods = ["GET"] if "HEAD" in front.known else ["GET", "HEAD"]
    requests = [(method, f"/{n}") for n, method in enumerate((*methods, "GET"))]
    requests += [("POST", "/", 100)] if front.wrong else []
    site = nginx("site", "listen 8081;")
    proxy = front.start(80)
    eventually(lambda: visit(door) == "site", "the site is to answer through the front end")
    load = Load(door, *requests)
    load.wait_for("site")
    own = maintd(8080, front.page)
    time.sleep(2)  # as README says
    stopping = time.monotonic()
    site.stop(signal.SIGQUIT)
    stopped = time.monotonic()
    report.expect([visit(door, *request) for request in requests * 10], "page",
                  "from the stop of the site on")
    load.wait_for("page")
    now = time.monotonic()
    load.end()
    report.expect(load.between(0, stopping), "site", "before the stop of the site")
    report.expect(load.between(stopped, now), "page", "while maintd serves")
    # A request that the site has begun to read when it stops may be lost.
    lost = [result for *_, result in load.visits if result not in ("site", "page")]
    if len(lost) > len(requests):
        report.faults.append(f"lost when the site stopped: {dict(collections.Counter(lost))}")

    own.stop()
    report.matrix(door, columns, front.known, 8080)
    if front.in_place:
        report.matrix(door, columns, front.known, 8081, " in place")
    own = maintd(8080, front.page)

    load = Load(door, *requests)
    load.wait_for("page")
    nginx("site", "listen 8081;")
    if front.notices:
        eventually(lambda: visit(door) == "site", "it asks the site again", front.notices)
    back = time.monotonic()
    report.expect(paths(door, *methods), "site", "from the start of the site on")
    time.sleep(2)  # as README says
    if own.stop() != 0:
        report.faults.append("maintd did not end with status 0")
    report.expect(paths(door, *methods), "site", "after maintd has ended")
    load.end()
    report.expect(load.between(back, time.monotonic()), "site", "after the start of the site")
    report.expect({result for *_, result in load.visits} - {"page"}, "site", "in all")
    if proxy.ended():
        report.faults.append(f"the front end has ended:\n{proxy.log()}")

def tls_row(front, report, columns):
    """A site that ends TLS itself, and a program that does that for maintd meanwhile."""
    door = Door(443)
    site = nginx("site", "listen 443 ssl;")
    own = maintd(8080, PAGE)
    report.expect(paths(door, "GET"), "site", "before the stop of the site")
    site.stop(signal.SIGQUIT)
    end_of_tls = front.start(443)
    report.expect(paths(door, "GET", "HEAD"), "page", "from the start of the front end on")
    own.stop()
    report.matrix(door, columns, front.known, 8080)
    end_of_tls.stop()
    nginx("site", "listen 443 ssl;")
    report.expect(paths(door, "GET", "HEAD"), "site", "from the start of the site on")

def nftables_row(report, columns):
    """The servers are behind a wire, and send all visitors but one to maintd."""
    wired = run("bash", "-euc", """
        ip netns add server
        ip link add wire type veth peer name eth0 netns server
        ip link set wire up
        ip -n server link set eth0 up
        for address in 192.0.2.7/24 192.0.2.8/24 "2001:db8::8/64 nodad"; do
            ip address add $address dev wire
        done
        ip -n server address add 192.0.2.1/24 dev eth0
        ip -n server address add 2001:db8::1/64 dev eth0 nodad""")
    if wired.returncode:
        raise Broken(f"no network: {wired.stdout}")
    Server.prefix = ["ip", "netns", "exec", "server"]
    operator, visitor = (Door(80, "192.0.2.1", f"192.0.2.{n}") for n in (7, 8))
    nginx("site", "listen 80; listen [::]:80;")
    own = maintd(8080, PAGE)
    for when, commands, what in (
            ("before the rules", "true", "site"),
            ("with the rules", readme_block("Let yourself in first"), "page"),
            ("without the rules", re.search("let the visitors in: (.*)", README)[1], "site")):
        if (done := run(*Server.prefix, "bash", "-euc", commands)).returncode:
            raise Broken(f"{commands}: {done.stdout}")
        report.expect(paths(operator, "GET"), "site", f"the operator {when}")
        report.expect(paths(visitor, "GET", "HEAD"), what, f"a visitor {when}")
        report.expect(paths(Door(80, "2001:db8::1"), "GET"), what, f"a visitor over IPv6 {when}")
        if what == "page":
            own.stop()
            report.matrix(visitor, columns, {}, 8080)
            own = maintd(8080, PAGE)

# ---- README's own steps, systemd, Kubernetes, clients -------------------------------------------

def steps_row(report):
    """README's steps as they stand, twice. operator.sh plays make, scp and systemctl."""
    section = README.partition("A roll-out, step by step\n")[2].partition("  systemd keeps")[0]
    blocks = re.findall(r"(?:^ {7}\S.*\n)+", section, re.M)
    build, start, stop_site, ask, answer, stop = [re.sub("^ +", "", x, flags=re.M) for x in blocks]
    (HERE / "bin").mkdir()
    for name in ("make", "scp", "systemctl"):
        (HERE / "bin" / name).symlink_to(FRONT_ENDS / "operator.sh")
    environment = os.environ | {"PATH": f"{HERE}/bin:{os.environ['PATH']}", "MAINTD": MAINTD}

    def do(block):
        with (HERE / "printed").open("w") as printed:
            subprocess.run(["bash", "-euc", block], env=environment, cwd=HERE, timeout=30,
                           stdin=subprocess.DEVNULL, stdout=printed, stderr=printed)
        return (HERE / "printed").read_text()

    def visitors_see(what, when):
        eventually(lambda: visit(Door()) == what, f"visitors are to see the {what} {when}", 5)
        report.expect(paths(Door(), "GET", "HEAD"), what, when)

    nginx("site", "listen 80; listen [::]:80;")
    do(build)
    for breaks in (False, True):  # the new server does not start
        do(start)
        visitors_see("site", "while maintd waits")
        do(stop_site)
        visitors_see("page", "after the stop of the site")
        shown, sent = (re.sub(r"(Length:) \d+", r"\1 N", x) for x in (answer, do(ask)))
        if shown.strip() not in sent.replace("\r", ""):
            report.faults.append(f"README shows another header than {sent[:500]}")
        if breaks:
            (HERE / "new-server-is-broken").touch()
            do(stop)
            eventually(lambda: visit(Door()) == "refused", "nobody is to serve")
            do(start)
            visitors_see("page", "after step 2 was repeated")
            (HERE / "new-server-is-broken").unlink()
        do(stop)
        visitors_see("site", "after the last step")
        if "answered in" not in (HERE / "maintd.log").read_text():
            report.faults.append("maintd.log does not tell how many requests were answered")

def straight_row(report):
    """Ten roll-outs on the site's own port, under load: how many are lost, and for how long."""
    door = Door()
    sites = (("127.0.0.1", "listen 80;"), ("::1", "listen [::]:80 ipv6only=on;"))
    site = nginx("site", sites[0][1])
    load = Load(door, ("GET",), ("GET", "/a"), ("HEAD",), ("POST", "/", 300_000))
    gaps, cut_at_stop = [], 0
    report.notes.append("the site is stopped by   refused   cut by: site  maintd's stop    gap, ms")
    for number in range(10):
        load.visits.clear()
        load.wait_for("site", 200)
        waiting = maintd(80, PAGE, ready="")
        load.wait_for("site", 200)
        how = (signal.SIGQUIT, signal.SIGTERM)[number // 2 % 2]
        stopping = time.monotonic()
        site.stop(how)
        waiting.wait_until(lambda server=waiting: "serving" in server.log())
        serving = time.monotonic()
        load.wait_for("page", 200)
        door.address, listen = sites[(number + 1) % 2]  # maintd has waited for either
        ending = time.monotonic()
        if waiting.stop() != 0:
            report.faults.append("maintd did not end with status 0")
        site = nginx("site", listen)
        back = time.monotonic()
        load.wait_for("site", 200)
        visits = sorted(load.visits)
        report.expect(load.between(0, stopping), "site", "while maintd waits")
        report.expect(load.between(serving, ending), "page", "while maintd serves")
        report.expect(load.between(back, visits[-1][1]), "site", "after the start of the site")
        cut = [end > ending for _, end, what in visits if what not in ("site", "page", "refused")]
        cut_at_stop += sum(cut)
        gaps.append(min(end for _, end, what in visits if what == "page") -
                    max(begin for begin, end, what in visits if what == "site" and end < serving))
        refused = sum(what == "refused" for *_, what in visits)
        report.notes.append(f"{how.name:24} {refused:7} {len(cut) - sum(cut):14} {sum(cut):14} "
                            f"{gaps[-1] * 1e3:10.0f}")
    load.end()
    # The kernel may let a client in between maintd's last accept() and close().
    if cut_at_stop > 1 or sorted(gaps)[5] > 0.05:
        report.faults.append(f"{cut_at_stop} were cut off at maintd's stop; the gaps are {gaps}")

def systemd_row(report):
    """README's lines for systemd, in a container that boots this machine's /usr."""
    (HERE / "bin").mkdir()
    (HERE / "out").mkdir()
    shutil.copy(MAINTD, HERE / "bin" / "maintd")
    start, journal, stop = readme_block("systemd keeps").splitlines()
    asks = "until curl -si localhost; do sleep 0.1; done"
    lines = "\n".join(("ip link set lo up", start, asks, stop, journal))
    (HERE / "out" / "lines").write_text(lines)
    unit = "/etc/systemd/system/rollout.service"
    booted = run("systemd-nspawn", "-q", "-D", "/", "--volatile=yes", "--private-network",
                 "--register=no", "--keep-unit", f"--bind-ro={HERE}/bin:/usr/local/bin",
                 f"--bind={HERE}/out:/out", f"--bind-ro={FRONT_ENDS}/rollout.service:{unit}", "-b",
                 "systemd.unit=rollout.service", "systemd.firstboot=off")
    if not (HERE / "out" / "printed").exists():
        raise Absent(f"systemd does not boot here: {booted.stdout[-500:]}")
    printed = (HERE / "out" / "printed").read_text()
    for expected in ("Running as unit: maintd", "Server: maintd", "answered in", "Deactivated"):
        if expected not in printed:
            report.faults.append(f"systemd: no '{expected}' in:\n{printed}")

def kubernetes_row(report):
    """README's objects for Kubernetes against its schemas, which main() has got from npm."""
    if not os.path.isdir(os.environ["SCHEMAS"] + "/node_modules"):
        raise Absent("kubernetes-models is not installed, because npm could not get it")
    checked = run("node", str(FRONT_ENDS / "kubernetes.mjs"), cwd=os.environ["SCHEMAS"],
                  input=readme_block("In Kubernetes"))
    if checked.returncode or "Deployment is valid\nService is valid\n" != checked.stdout:
        report.faults.append(checked.stdout)

def clients_row(report):
    """What the programs that people use say about maintd."""
    Server(MAINTD, "-r", "2", "-p", "8080", port=8080)
    text = re.sub(r"\\\n *", "", (FRONT_ENDS / "clients").read_text())
    clients = re.findall(r"^([^#|]*?) +\| (.*) \| (.*)$", text, re.M)
    own = {"HOME": str(HERE), "P": str(FRONT_ENDS), "U": "http://localhost:8080"}

    def ask(client):
        begin = time.monotonic()
        done = run("bash", "-c", client[1], env=os.environ | own, cwd=HERE)
        return done.returncode, done.stdout.strip(), f"after {time.monotonic() - begin:.0f} s"

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        for (name, _, pattern), (status, text, after) in zip(clients, pool.map(ask, clients)):
            read = re.search(pattern, f"{text}\n{after}", re.M)
            if status == 127 or "No module named" in text:
                report.absent.append(f"{name}: {text}")
            elif read is None:
                report.faults.append(f"{name}: no '{pattern}' in {text}\n{after}")
            else:
                text = " ".join(read[0].split())
                report.notes.append(f"{name:20} {status:3} {after:>10}  {text}")

# ---- Rows ---------------------------------------------------------------------------------------

def inside(name, columns):
    """Runs in the namespaces of a row, and prints what it found."""
    report = Report()
    try:
        for place in ("/run", "/dev/shm", "/var/log", "/var/lib/nginx", "/etc/ssl/private"):
            if os.path.isdir(place):
                run("mount", "-t", "tmpfs", "tmpfs", place)
        run("ip", "link", "set", "lo", "up")
        HERE.mkdir()
        HERE.chmod(0o777)
        os.chdir(HERE)
        pem = "/etc/ssl/private/site.pem"
        run("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=example",
            "-keyout", pem, "-out", "certificate")
        with open(pem, "a") as both:
            both.write(pathlib.Path("certificate").read_text())
        if front := PROXIES.get(name):
            proxy_row(front, report, columns if not front.wrong else [])
        elif front := ENDS_OF_TLS.get(name):
            tls_row(front, report, columns)
        elif name == "nftables":
            nftables_row(report, columns)
        else:
            globals()[f"{name}_row"](report)
    except Absent as absent:
        report.absent.append(str(absent))
    except Broken as broken:
        report.faults.append(str(broken))
    if name in PROXIES and PROXIES[name].wrong and "from the" in "".join(report.faults):
        report.notes, report.faults = [f"goes wrong, as README says: {report.faults[0]}"], []
    elif name in PROXIES and PROXIES[name].wrong:
        report.faults.append("README says that this goes wrong")
    print(json.dumps(vars(report)))

def outside(name, options):
    """Starts a row, and returns what it found."""
    row = subprocess.run(["unshare", "--net", "--pid", "--mount", "--fork", "--kill-child",
                          "--mount-proc", sys.executable, __file__, "--inside", name, *options],
                         stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=900)
    try:
        return json.loads(row.stdout.splitlines()[-1])
    except (IndexError, json.JSONDecodeError):
        return vars(Report()) | {"faults": [f"the row ended early:\n{row.stdout}"]}

def main():
    options = [argument for argument in sys.argv[1:] if argument.startswith("--")]
    names = [argument for argument in sys.argv[1:] if not argument.startswith("--")]
    columns = [name for name in MATRIX if (name == "75 s") == ("--long" in options)]
    if "--inside" in options:
        return inside(names[0], columns)
    if os.geteuid() != 0:
        sys.exit("rollout.py: it needs root, because each row has a network of its own")
    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            del os.environ[name]
    fronts = [name for name in PROXIES if not PROXIES[name].wrong or "--long" not in options]
    fronts += [*ENDS_OF_TLS, "nftables"]
    others = ["steps", "straight", "systemd", "kubernetes", "clients"]
    names = names or fronts + others * ("--long" not in options)
    schemas = tempfile.TemporaryDirectory()
    os.environ["SCHEMAS"] = schemas.name
    if "kubernetes" in names:
        run("npm", "install", "--silent", "kubernetes-models@4", "yaml@2", cwd=schemas.name)
    failed = 0
    print(" " * 24 + "".join(f"{column:>9}" for column in columns))
    with concurrent.futures.ThreadPoolExecutor(12 if "--long" in options else 4) as pool:
        for name, row in zip(names, pool.map(lambda name: outside(name, options), names)):
            cells = list(row["cells"].values()) or [""]
            for first in range(0, len(cells), len(columns)):
                line = "".join(f"{cell:>9}" for cell in cells[first:first + len(columns)])
                print(f"{name + ' in place' * (first > 0):24}{line}")
            if os.environ.get("CI"):  # where everything is installed
                row["faults"] += row["absent"]
            for text in row["notes"]:
                print(f"    {text}")
            for text in row["absent"]:
                print(f"    SKIPPED: {text}; all that it takes: apt-get install {PACKAGES}")
            for text in row["faults"]:
                print(f"    FAULT: {text}", flush=True)
            failed += bool(row["faults"])
    print(f"{len(names) - failed} passed, {failed} failed")
    sys.exit(failed > 0)

if __name__ == "__main__":
    main()
