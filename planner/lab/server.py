"""HTTP server of the lab's package repository, with faults. Runs alone: the standard library only.

usage: server.py ROOT ADDRESS PORT FAULTS

FAULTS is a file, read at every request; a line is a fault and a part of the path it is for:
``503 TEXT`` · ``hang TEXT`` · ``slow TEXT BYTES_PER_SECOND`` · ``cut TEXT`` · ``corrupt TEXT``.
"""

from __future__ import annotations

import http.server
import sys
import time
import urllib.parse
from pathlib import Path

HANG_S = 3600


class Repository(http.server.BaseHTTPRequestHandler):
    """Answers with files under the root, or as a fault says."""

    protocol_version = "HTTP/1.1"
    root: Path
    faults: Path

    def do_GET(self) -> None:
        """Send one file."""
        path = urllib.parse.unquote(urllib.parse.urlsplit(self.path).path)
        words = self._fault(path)
        if words[0] == "hang":
            time.sleep(HANG_S)
        if words[0] == "503":
            self.send_error(503, "planner lab fault")
            return
        file = (self.root / path.lstrip("/")).resolve()
        if not file.is_file() or self.root.resolve() not in file.parents:
            self.send_error(404)
            return
        self._send(file.read_bytes(), words)

    def _fault(self, path: str) -> list[str]:
        """Return the words of the first fault for this path, or an empty word."""
        try:
            lines = self.faults.read_text(encoding="utf-8").splitlines()
        except OSError:
            lines = []
        found = [line.split() for line in lines if len(line.split()) > 1 and line.split()[1] in path]
        return found[0] if found else [""]

    def _send(self, body: bytes, words: list[str]) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Type", "application/octet-stream")
        self.end_headers()
        if words[0] == "corrupt" and body:
            body = body[:-1] + bytes([body[-1] ^ 1])
        if words[0] == "cut":
            self.wfile.write(body[: len(body) // 2])
            self.close_connection = True
            return
        step = int(words[2]) if words[0] == "slow" and len(words) > 2 else len(body) or 1
        for start in range(0, len(body), step):
            if start:
                time.sleep(1)
            self.wfile.write(body[start:start + step])

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the base class's own name
        """Write nothing: nobody reads it, and it would grow without end."""


def main(argv: list[str]) -> None:
    """Serve until killed."""
    root, address, port, faults = argv
    Repository.root, Repository.faults = Path(root), Path(faults)
    http.server.ThreadingHTTPServer.daemon_threads = True
    http.server.ThreadingHTTPServer((address, int(port)), Repository).serve_forever()


if __name__ == "__main__":
    main(sys.argv[1:])
