#!/usr/bin/env python3
"""Roll-outs as README tells them: by its own steps, and through each front end that it shows. Also
what the programs that people use say about the page.

    rollout.py [row ...]           MAINTD=path tests another binary
    rollout.py --long [row ...]    an upload of 75 seconds through each front end

Each row is a process in network, process and mount namespaces of its own (unshare(1)). The ports
80, 443, 8080 and 8081 are free there, /run and /var/log are empty, and everything that was started
ends with the row. That is why README's lines run as they stand, several rows run at the same time,
and the servers of this machine notice nothing. .ci/run installs the packages that the rows need.
"""
import collections, concurrent.futures, dataclasses, http.client, json, os, pathlib, re, signal
import socket, ssl, subprocess, sys, time, traceback, types

ROOT = pathlib.Path(__file__).resolve().parents[2]
FRONT_ENDS = ROOT / "test/proof/front_ends"
README = (ROOT / "README").read_text()
PAGE = (ROOT / "maintenance.html").read_bytes()
MAINTD = os.path.abspath(os.environ.get("MAINTD", ROOT / "maintd"))
HERE = pathlib.Path("/run/rollout")  # in a row: everything that it writes, and the page
LINES, NOTES, FAULTS = [], [], []  # in a row: its lines in the table, and what else it found

class Broken(Exception):
    """A row cannot go on."""

def expect(results, wanted, when):
    others = collections.Counter(results)
    if not others.pop(wanted, 0) or others:
        FAULTS.append(f"{when}: {len(results)} times, not {wanted}: {dict(others)}")

def run(*command, timeout=120):
    """Runs a command to its end, and returns it with what it printed."""
    return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          stdin=subprocess.DEVNULL, errors="replace", timeout=timeout)

def shell(commands, *prefix):
    """Runs lines of bash, none of which may fail."""
    done = run(*prefix, "bash", "-euc", commands)
    if done.returncode:
        raise Broken(f"status {done.returncode} of {commands}:\n{done.stdout}")

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
        self.log = HERE / f"{self.name}-{time.monotonic_ns()}.log"
        with self.log.open("w") as output:
            self.process = subprocess.Popen([*self.prefix, *command], cwd=HERE, stdout=output,
                                            stderr=output, stdin=subprocess.DEVNULL)
        self.wait_until(lambda: self.listens(port) and ready in self.log.read_text())

    def wait_until(self, happens):
        eventually(lambda: self.process.poll() is not None or happens(), f"{self.name} is to start")
        if self.process.returncode is not None:
            raise Broken(f"{self.name} did not start, or ended:\n{self.log.read_text()}")

    def listens(self, port):
        """Whether somebody listens on the port. Connecting would be a visit."""
        return port is None or run(*self.prefix, "ss", "-Hltn", f"sport = :{port}").stdout

    def stop(self, number=signal.SIGTERM):
        self.process.send_signal(number)
        return self.process.wait(20)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        expect([self.stop()], 0, f"exit status of {self.name}, which wrote {self.log.read_text()}")

def nginx(name, listen, answer="200 'the site\\n'"):
    """Starts nginx as the site, or with the answer 503 in maintd's place."""
    text = (FRONT_ENDS / "site.conf").read_text().replace("NAME", name)
    (HERE / name).write_text(text.replace("LISTEN", listen).replace("ANSWER", answer))
    port = int(re.search(r"\d+", listen)[0])
    return Server("nginx", "-p", str(HERE), "-c", name, "-g", "daemon off;", port=port)

def maintd(port, ready="serving"):
    return Server(MAINTD, "-w", "-p", str(port), str(HERE / "page.html"), ready=ready)

# ---- Visitors -----------------------------------------------------------------------------------

TLS = ssl._create_unverified_context()
# Where visitors come in, and a visitor's own address.
Door = collections.namedtuple("Door", "port address source", defaults=(80, "127.0.0.1", ""))

def visit(door, method="GET", path="/", size=0, pause=0.0, pieces=1):
    """Makes one request, and returns what the visitor got: site, page, or what is wrong with it.
    If there is a pause, it comes after the header and after each piece of the body."""
    length = f"Content-Length: {size}\r\n" * (method == "POST")
    header = f"{method} {path} HTTP/1.1\r\nHost: example\r\n{length}\r\n".encode()
    steps = [header, *[b"x" * (size // pieces)] * pieces]
    try:
        with socket.create_connection((door.address, door.port), 30, (door.source, 0)) as plain:
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection = TLS.wrap_socket(plain) if door.port == 443 else plain
            for step in steps if pause else [b"".join(steps)]:
                connection.sendall(step)
                time.sleep(pause)
            answer = http.client.HTTPResponse(connection, method=method)
            answer.begin()
            body = answer.fp.read() if answer.will_close else answer.read()
    except ConnectionRefusedError:
        return "refused"
    except (OSError, http.client.HTTPException) as error:
        return repr(error)
    fields = [answer.getheader(x) for x in ("Retry-After", "Cache-Control", "Content-Length")]
    for what, status, text in (("site", 200, b"the site\n"),
                               ("page", 503, (HERE / "page.html").read_bytes())):
        same = body == (b"" if method == "HEAD" else text)
        if answer.status == status and same and fields == ["120", "no-store", str(len(text))]:
            return what
    return f"{answer.status} {answer.reason} of its own, with a body of {len(body)} bytes"

def see(what, when, door):
    """Expects that visitors see the site, or the page."""
    expect([visit(door, *request) for request in (("GET",), ("HEAD", "/head")) * 20], what, when)

def times(count, workers, *request):
    def cell(door):
        with concurrent.futures.ThreadPoolExecutor(workers) as pool:
            return list(pool.map(lambda _: visit(door, *request), range(count)))
    return cell

def curl(count, *options):
    """Requests that curl makes one after the other, over one connection where that is kept."""
    def cell(door):
        answers = [HERE / f"answer{n + 1}" for n in range(count)]
        for answer in answers:
            answer.write_text("")
        url = f"http{'s' * (door.port == 443)}://{door.address}/unbuffered/[1-{count}]"
        said = run("curl", "-sSkm60", "-o", "answer#1", "-w", "%{http_code} ", *options, url).stdout
        return ["page" if answer.read_bytes() == (HERE / "page.html").read_bytes() else said
                for answer in answers]
    return cell

MATRIX = {
    "GET": times(200, 10, "GET"),
    "HEAD": times(200, 10, "HEAD"),
    "100 B": times(200, 40, "POST", "/", 100),
    "10 kB": times(200, 40, "POST", "/", 10_000, 0.010),
    "100 kB": times(200, 40, "POST", "/", 100_000),
    "1 MB": times(200, 40, "POST", "/unbuffered", 1_000_000),
    "30 MB": curl(3, "-H", "Expect:", "-T", "upload"),
    "chunked": curl(3, "-H", "Transfer-Encoding: chunked", "-T", "upload"),
    "Expect": curl(3, "-H", "Expect: 100-continue", "-T", "upload"),
    "kept": curl(50),
    "kept P.": curl(20, "-d", "x" * 1000),
    "75 s": times(4, 4, "POST", "/", 15_000_000, 0.1, 750),
}
LONG = "--long" in sys.argv
COLUMNS = [name for name in MATRIX if (name == "75 s") == LONG]

def matrix(label, door, known, port):
    """Adds a line to the table, with maintd on the port. What goes wrong has to be known as a fault
    of the front end, and has to go wrong with nginx in maintd's place, too."""
    def ask(server):
        """Returns what visitors got, or None if all of them got the page."""
        with server:
            found = collections.Counter(MATRIX[name](door))
        return found if set(found) != {"page"} else None

    cells = []
    for name in COLUMNS:
        found = ask(maintd(port))
        if found and found["page"] >= 0.99 * found.total():  # perhaps the machine stood still
            NOTES.append(f"{label}, {name}: asked once more, because of {found}")
            found = ask(maintd(port))
        if found:
            with_nginx = (ask(nginx("stand_in", f"listen {port};", "503"))
                          for _ in range(60 if name in known else 1))
            again = next(filter(None, with_nginx), None)
            (NOTES if name in known and again else FAULTS).append(
                f"{label}, {name}: {found}, and with nginx in maintd's place "
                f"{again or 'whole pages'}. {known.get(name, '')}")
        cells.append(f"{found.total() - found['page']}/{found.total()}*" if found else "ok")
    LINES.append(f"{label:24}" + "".join(f"{cell:>9}" for cell in cells))

class Load:
    """A few visitors who come again and again, each with a request of its own."""

    def __init__(self, door, *requests):
        self.door, self.visits, self.over = door, [], False  # visits: (begin, end, result)
        self.pool = concurrent.futures.ThreadPoolExecutor(len(requests))
        for request in requests:
            self.pool.submit(self.come, *request)

    def come(self, *request):
        while not self.over:
            begin = time.monotonic()
            result = visit(self.door, *request)
            self.visits.append((begin, time.monotonic(), result))
            time.sleep(0.002)

    def see(self, what, when, count=50, seconds=0):
        """Expects what visitors see who come from now on, until so many of them have come."""
        now = time.monotonic()
        time.sleep(seconds)
        eventually(lambda: sum(begin >= now for begin, *_ in self.visits) >= count,
                   f"{count} visits {when}")
        expect([result for begin, _, result in self.visits if begin >= now], what, when)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.over = True
        self.pool.shutdown()

# ---- Front ends ---------------------------------------------------------------------------------

@dataclasses.dataclass
class Front:
    """A front end: where README shows it, and how it is started."""

    after: str  # README's line before its own lines
    command: str = ""  # without one, README's lines are the command
    frame: str = ""  # the file in front_ends/ with what it needs besides
    edits: dict = dataclasses.field(default_factory=dict)  # replacements by their patterns
    port: int = 80  # 443: it ends TLS for maintd while the site, which does that itself, is down
    notices: float = 0  # seconds after which it asks the site again
    in_place: bool = False  # the matrix again, with maintd on the site's own port
    padding: int = 0  # bytes behind maintenance.html
    known: dict = dataclasses.field(default_factory=dict)  # faults of its own, by column
    wrong: bool = False  # README says that a roll-out goes wrong like this

    def start(self):
        text = readme_block(self.after)
        if self.frame:
            text = (FRONT_ENDS / self.frame).read_text().replace("README\n", text, 1)
        for pattern, replacement in self.edits.items():
            text, edited = re.subn(pattern, replacement, text)
            if not edited:
                raise Broken(f"nothing to edit: {pattern}")
        (HERE / "front").write_text(text)
        return Server("bash", "-c", f"exec {self.command or text}", port=self.port)

also = dataclasses.replace
PAUSE = {"75 s": "After the page it ends an upload that pauses"}
RESET = {"75 s": "It resets an upload that it does not need"}
HTTP = Front("nginx", "nginx -p /run/rollout -c front -g 'daemon off;'", "nginx.conf")
HAPROXY = Front("HAProxy", "haproxy -db -f front", "haproxy.cfg", notices=1.5)
TCP = also(HAPROXY, edits={"mode http": "mode tcp", " *option httpchk.*\n": ""})
SEND_PROXY = also(TCP, edits=TCP.edits | {":8080": ":8080 send-proxy"},
                  known={"HEAD": "maintd does not read the PROXY protocol"})
APACHE = Front("Apache", "apache2 -DFOREGROUND -f /run/rollout/front", "apache.conf", in_place=True)
CADDY = Front("Caddy", "caddy run --adapter caddyfile --config front", in_place=True,
              known=RESET | dict.fromkeys(("30 MB", "chunked", "Expect"), RESET["75 s"]))
SHELL = Front("Or socat, or hitch", port=443, edits={"hitch.*\n": ""})
FRONTS = {
    "Squid": Front("Squid", "squid -N -n maintdrollout -f front", "squid.conf", known=RESET),
    "nginx http": HTTP,
    "nginx, max_fails": also(HTTP, edits={" max_fails=0": ""}, wrong=True),
    "nginx stream": also(HTTP, frame="stream.conf", known=PAUSE),
    "HAProxy http": HAPROXY,
    "HAProxy tcp": TCP,
    "HAProxy send-proxy": SEND_PROXY,
    "HAProxy send-proxy-v2": also(SEND_PROXY, edits=TCP.edits | {":8080": ":8080 send-proxy-v2"}),
    "Apache": APACHE,
    "Apache, overriding": also(APACHE, edits={"Error": "ProxyErrorOverride On\nError"}, wrong=True),
    "Caddy": CADDY,
    "Caddy, 100 kB": also(CADDY, padding=100_000),
    "Caddy, any method": also(CADDY, edits={" {\n *method GET\n *}": ""}, wrong=True),
    "Varnish": Front("Varnish", "varnishd -F -a :80 -f /run/rollout/front -n /run/rollout/varnish",
                     notices=0.5, in_place=True),
    "stunnel": Front("the configuration of stunnel", "stunnel front", port=443,
                     edits={"^": "foreground = yes\n"}),
    "socat": SHELL,
    "hitch": also(SHELL, edits={r"socat.*\\\n.*\n": ""}, known=PAUSE),
}

def proxy_row(name, front):
    """A roll-out behind a proxy that stays up, with maintd on a port of its own."""
    door = Door()
    requests = [("GET",), ("GET", "/a"), ("HEAD", "/b")][:2 if "HEAD" in front.known else 3]
    requests += [("POST", "/", 100)] * (front.after == "Caddy")
    site = nginx("site", "listen 8081;")
    proxy = front.start()
    eventually(lambda: visit(door) == "site", "the site is to answer through the front end")
    with maintd(8080), Load(door, *requests) as load:
        load.see("site", "before the stop of the site", seconds=2)  # as README says
        site.stop(signal.SIGQUIT)
        load.see("page", "from the stop of the site on")
    # A request that the site has begun to read when it stops may be lost.
    lost = [result for *_, result in load.visits if result not in ("site", "page")]
    if len(lost) > len(requests):
        FAULTS.append(f"lost when the site stopped: {dict(collections.Counter(lost))}")
    for place, port in {"": 8080, ", in place": 8081}.items():
        if not front.wrong and (front.in_place or not place):
            matrix(name + place, door, front.known, port)
    with maintd(8080) as own, Load(door, *requests) as load:
        load.see("page", "before the start of the site")
        nginx("site", "listen 8081;")
        if front.notices:
            eventually(lambda: visit(door) == "site", "it asks the site again", front.notices)
        load.see("site", "from the start of the site on", seconds=2)  # as README says
        own.stop()
        load.see("site", "after maintd has ended")
    expect({result for *_, result in load.visits} - {"page"}, "site", "in all")
    if proxy.process.poll() is not None:
        FAULTS.append(f"the front end has ended:\n{proxy.log.read_text()}")

def tls_row(name, front):
    """A site that ends TLS itself, and a program that does that for maintd meanwhile."""
    door = Door(port=443)
    site = nginx("site", "listen 443 ssl;")
    see("site", "before the stop of the site", door)
    site.stop(signal.SIGQUIT)
    end_of_tls = front.start()
    with maintd(8080):
        see("page", "from the start of the front end on", door)
    matrix(name, door, front.known, 8080)
    end_of_tls.stop()
    nginx("site", "listen 443 ssl;")
    see("site", "from the start of the site on", door)

def nftables_row():
    """The servers are behind a wire, and send all visitors but one to maintd."""
    shell("""
        ip netns add server
        ip link add wire type veth peer name eth0 netns server
        ip link set wire up
        ip -n server link set eth0 up
        ip address add 192.0.2.8/24 dev wire
        ip address add 192.0.2.7/24 dev wire
        ip address add 2001:db8::8/64 dev wire nodad
        ip -n server address add 192.0.2.1/24 dev eth0
        ip -n server address add 2001:db8::1/64 dev eth0 nodad""")
    Server.prefix = ["ip", "netns", "exec", "server"]
    visitor, operator = Door(80, "192.0.2.1"), Door(80, "192.0.2.1", "192.0.2.7")
    nginx("site", "listen 80; listen [::]:80;")
    for when, commands, what in (
            ("before the rules", "true", "site"),
            ("with the rules", readme_block("Let yourself in first"), "page"),
            ("without the rules", re.search("let the visitors in: (.*)", README)[1], "site")):
        shell(commands, *Server.prefix)
        with maintd(8080):
            see("site", f"the operator {when}", operator)
            see(what, f"a visitor {when}", visitor)
            see(what, f"a visitor over IPv6 {when}", Door(80, "2001:db8::1"))
        if what == "page":
            matrix("nftables", visitor, {}, 8080)

# ---- README's own steps, systemd, Kubernetes, clients -------------------------------------------

def steps_row():
    """README's steps as they stand. operator.sh plays make, scp and systemctl, which fails once."""
    section = README.partition("A roll-out, step by step\n")[2].partition("  systemd keeps")[0]
    blocks = re.findall(r"(?:^ {7}\S.*\n)+", section, re.M)
    build, start, stop_site, ask, answer, stop = [re.sub("^ +", "", x, flags=re.M) for x in blocks]

    def do(block):  # maintd may go on writing when the shell has ended
        run("bash", "-euc", f"exec >printed 2>&1; . {FRONT_ENDS}/operator.sh; {block}")
        return (HERE / "printed").read_text()

    def visitors_see(what, when):
        eventually(lambda: visit(Door()) == what, f"visitors are to see the {what} {when}", 5)
        see(what, when, Door())

    nginx("site", "listen 80; listen [::]:80;")
    do(build)
    do(start)
    visitors_see("site", "while maintd waits")
    do(stop_site)
    visitors_see("page", "after the stop of the site")
    shown, sent = (re.sub(r"(Length:) \d+", r"\1 N", x) for x in (answer, do(ask)))
    if shown.strip() not in sent.replace("\r", ""):
        FAULTS.append(f"README shows another header than {sent[:500]}")
    (HERE / "new-server-is-broken").touch()
    do(stop)
    eventually(lambda: visit(Door()) == "refused", "nobody is to serve")
    do(start)
    visitors_see("page", "after step 2 was repeated")
    (HERE / "new-server-is-broken").unlink()
    do(stop)
    visitors_see("site", "after the last step")
    if "answered in" not in (HERE / "maintd.log").read_text():
        FAULTS.append("maintd.log does not tell how many requests were answered")

def straight_row():
    """Ten roll-outs on the site's own port, under load: how many are lost, and for how long."""
    sites = ((Door(), "listen 80;"), (Door(80, "::1"), "listen [::]:80 ipv6only=on;"))
    site = nginx("site", sites[0][1])
    gaps, lost = [], collections.Counter()
    for number in range(10):
        visitors = ("GET",), ("GET", "/a"), ("HEAD",), ("POST", "/", 300_000)
        with Load(sites[number % 2][0], *visitors) as load, maintd(80, "waiting") as own:
            load.see("site", "while maintd waits", 200)
            site.stop((signal.SIGQUIT, signal.SIGTERM)[number // 2 % 2])
            own.wait_until(lambda log=own.log: "serving" in log.read_text())
            load.see("page", "while maintd serves", 200)
            load.door, listen = sites[(number + 1) % 2]  # maintd has waited for either
            own.stop()
            site = nginx("site", listen)
            load.see("site", "after the start of the site", 200)
        page = min(end for _, end, what in load.visits if what == "page")
        gaps.append(page - max(begin for begin, end, what in load.visits
                               if what == "site" and end < page))
        lost.update(what if what == "refused" else f"cut by {'maintd' if end > page else 'nginx'}"
                    for _, end, what in load.visits if what not in ("site", "page"))
    NOTES.append(f"{dict(lost)}; gaps in ms: {[round(gap * 1e3) for gap in gaps]}")
    # The kernel may let a client in between maintd's last accept() and close(), and the machine may
    # be busy: the third shortest gap is enough to notice a wait that all gaps have.
    if lost["cut by maintd"] > 1 or sorted(gaps)[2] > 0.05:
        FAULTS.append("too many were cut off at maintd's stop, or the gaps are too long")

def systemd_row():
    """README's lines for systemd, in a container that boots this machine's /usr."""
    start, journal, stop = readme_block("systemd keeps").splitlines()
    run("install", "-D", MAINTD, "out/maintd")
    pathlib.Path("out/lines").write_text("\n".join((
        "#!/bin/bash -x", "exec >/out/printed 2>&1", "ip link set lo up", start,
        "until curl -si localhost; do sleep 0.1; done", stop, journal)))
    run("chmod", "+x", "out/lines")
    booted = run("systemd-nspawn", "-q", "-D", "/", "--volatile=yes", "--private-network", "-b",
                 "--register=no", "--keep-unit", f"--bind-ro={HERE}/out:/usr/local/bin",
                 f"--bind={HERE}/out:/out", "systemd.run=/out/lines", "systemd.firstboot=off")
    if not os.path.exists("out/printed"):
        raise Broken(f"systemd does not boot here: {booted.stdout[-500:]}")
    printed = pathlib.Path("out/printed").read_text()
    for expected in ("Running as unit: maintd", "Server: maintd", "answered in", "Deactivated"):
        if expected not in printed:
            FAULTS.append(f"systemd: no '{expected}' in:\n{printed}")

def kubernetes_row():
    """Makes objects of Debian's Kubernetes client from those that README shows, and compares. The
    client raises ValueError for missing fields and wrong types, and drops unknown fields."""
    import kubernetes
    import yaml
    shown = list(yaml.safe_load_all(readme_block("In Kubernetes")))
    kinds = [f"{x['apiVersion']} {x['kind']}" for x in shown]
    client = kubernetes.client.ApiClient()
    known = [client.sanitize_for_serialization(client.deserialize(
        types.SimpleNamespace(data=json.dumps(x)), f"V1{x['kind']}")) for x in shown]
    if known != shown or kinds != ["apps/v1 Deployment", "v1 Service"]:
        FAULTS.append(f"README shows {shown}, and Kubernetes makes of it {known}")

def clients_row():
    """What the programs that people use say about maintd."""
    os.environ |= {"HOME": str(HERE), "U": "http://localhost:8080"}
    Server(MAINTD, "-r", "2", "-p", "8080", port=8080)
    text = re.sub(r"\\\n *", "", (FRONT_ENDS / "clients").read_text())
    clients = re.findall(r"^([^#|]*?) +\| (.*) \| (.*)$", text, re.M)

    def ask(client):
        begin = time.monotonic()
        done = run("bash", "-c", client[1])
        return done.returncode, done.stdout.strip(), f"after {time.monotonic() - begin:.0f} s"

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        for (name, _, pattern), (status, text, after) in zip(clients, pool.map(ask, clients)):
            read = re.search(pattern, f"{text}\n{after}", re.M)
            if read is None:
                FAULTS.append(f"{name}: no '{pattern}' in {text}\n{after}")
            else:
                NOTES.append(f"{name:20} {status:3} {after:>10}  {' '.join(read[0].split())}")

# ---- Rows ---------------------------------------------------------------------------------------

def inside(name):
    """Runs a row in its namespaces, and prints what it found."""
    front = FRONTS.get(name)
    try:
        shell("""
            for place in /run /dev/shm /var/log /var/lib/nginx /etc/ssl/private; do
                [ ! -d $place ] || mount -t tmpfs tmpfs $place
            done
            ip link set lo up
            mkdir -m 777 /run/rollout
            ln -s /etc/ssl/private/site.pem /run/rollout
            head -c 30000000 /dev/zero >/run/rollout/upload
            openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=example \\
                -keyout /etc/ssl/private/site.pem -out /etc/ssl/private/site.pem""")
        os.chdir(HERE)
        pathlib.Path("page.html").write_bytes(PAGE + b" " * (front.padding if front else 0))
        if front:
            (tls_row if front.port == 443 else proxy_row)(name, front)
        else:
            globals()[f"{name}_row"]()
    except Exception as error:
        FAULTS.append(str(error) if isinstance(error, Broken) else traceback.format_exc())
    if front and front.wrong:
        told = [fault for fault in FAULTS if "from the st" in fault]
        LINES.append(f"{name:24}ok, it goes wrong as README says: {told[:1]}")
        FAULTS[:] = [] if told else ["README says that this goes wrong"]
    print(*LINES or [f"{name:24}{'FAULT' if FAULTS else 'ok'}"], *(f"    {x}" for x in NOTES),
          *(f"    FAULT: {x}" for x in FAULTS), sep="\n")
    sys.exit(bool(FAULTS))

def outside(name):
    """Runs a row in new namespaces, with the programs of Debian's packages."""
    return run("env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin:/usr/lib/nagios/plugins",
               f"MAINTD={MAINTD}", "timeout", "-v", "900", "unshare", "--net", "--pid", "--mount",
               "--fork", "--kill-child", "--mount-proc", "python3", __file__, "--inside", name,
               *["--long"] * LONG, timeout=None)

def main():
    names = [argument for argument in sys.argv[1:] if not argument.startswith("--")]
    if "--inside" in sys.argv:
        return inside(names[0])
    if os.geteuid() != 0 or not os.access(MAINTD, os.X_OK):
        sys.exit(f"rollout.py: it needs root, for networks of its own, and {MAINTD}")
    others = ["straight", "clients", "systemd", "steps", "kubernetes"]
    names = names or others * (not LONG) + [*FRONTS, "nftables"]
    failed, begin = 0, time.monotonic()
    print(" " * 24 + "".join(f"{column:>9}" for column in COLUMNS))
    with concurrent.futures.ThreadPoolExecutor(12 if LONG else 8) as pool:
        for row in pool.map(outside, names):
            print(row.stdout, end="", flush=True)
            failed += row.returncode != 0
    print(f"{len(names) - failed} passed, {failed} failed, in {time.monotonic() - begin:.0f} s")
    sys.exit(failed > 0)

if __name__ == "__main__":
    main()
