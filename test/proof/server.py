# SPDX-License-Identifier: 0BSD
"""How the tests in Python start a server and wait for it."""
import contextlib, pathlib, re, signal, socket, subprocess, time

PATIENCE = 300  # seconds for what comes at once, unless the machine is busy
socket.setdefaulttimeout(PATIENCE)

def eventually(condition, otherwise):
    """Waits until the condition holds, and returns its value."""
    end = time.monotonic() + PATIENCE
    while not (value := condition()):
        assert time.monotonic() < end, otherwise
        time.sleep(0.005)
    return value

class Server:
    """Runs a command, in which PORT stands for a free port, until the end of the block."""

    def __init__(self, *command, **process):
        # Nobody else gets this port. Before listen(), a socket with SO_REUSEADDR may bind it, too.
        self.holder = socket.socket()
        self.holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.holder.bind(("127.0.0.1", 0))
        self.address = self.holder.getsockname()
        words = [re.sub(r"\bPORT\b", str(self.address[1]), str(each)) for each in command]
        self.process = subprocess.Popen(words, **process)

    def __enter__(self):
        assert self.serves(), "it does not start"
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.communicate()
        self.holder.close()

    def serves(self):
        """Waits until it answers, or has ended. Returns whether it answers."""
        def answers():
            answer = b""
            with contextlib.suppress(OSError), socket.create_connection(self.address, 5) as client:
                client.sendall(b"HEAD / HTTP/1.1\r\nConnection: close\r\n\r\n")
                answer = client.recv(999)
                client.recv(1)  # waits for its end
            return answer or self.process.poll() is not None
        eventually(answers, "it neither serves nor ends")
        return self.process.poll() is None

    def status(self, field):
        """Returns what /proc says of the process."""
        text = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return re.search(rf"^{field}:\s*(.*?)\s*$", text, re.MULTILINE).group(1)

    @contextlib.contextmanager
    def traced(self, log, *options):
        """Attaches strace, which writes this log, to the running server until the block's end.
        It begins between two rounds of the server, which sleeps in poll()."""
        command = ["strace", "-o", str(log), *options, "-p", str(self.process.pid)]
        eventually(lambda: self.status("State").startswith("S"), "it does not come to rest")
        with subprocess.Popen(command, stderr=subprocess.DEVNULL) as strace:
            try:
                eventually(lambda: self.status("TracerPid") != "0", "strace does not attach")
                yield
                # If strace ended in the middle of a call, that would fail with another error.
                self.process.send_signal(signal.SIGSTOP)
                eventually(lambda: re.search("stopped by SIGSTOP|exited with", log.read_text()),
                           "it does not stop")
            finally:
                strace.terminate()
        self.process.send_signal(signal.SIGCONT)
