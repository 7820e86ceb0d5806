#!/usr/bin/env python3
"""A small RESTful web service that keeps JSON documents in SQLite.

    GET, PUT, DELETE /states/NAME/STAMP   a document is written once: a PUT of another is 409
    GET /atoms/NAME, PUT, DELETE /atoms/NAME?version=N   a PUT below the version that is there changes nothing, and a DELETE
                                                         deletes what is older
NAME is one percent-encoded segment: %2Faccounts%2F7. What was answered with 204 is on disk. Other answers: 404 with the
document `null`, there is none; 400; 403, see --read-only; 413; 507, see --bytes-max; 503, ask again.
"""
import argparse
import contextlib
import http.server
import json
import re
import signal
import sqlite3
import sys
import urllib.parse

PAGE_BYTES = 4096
DOCUMENT_BYTES_MAX = 256 << 20
IDLE_SECONDS_MAX = 60  # of a connection
BUSY_SECONDS_MAX = 5  # that a write waits for others
STATUS = {sqlite3.SQLITE_FULL: 507, sqlite3.SQLITE_READONLY: 403, sqlite3.SQLITE_BUSY: 503}
SCHEMA = f"""
    PRAGMA page_size = {PAGE_BYTES}; PRAGMA journal_mode = WAL;
    CREATE TABLE IF NOT EXISTS states (name TEXT, stamp TEXT, document TEXT NOT NULL, PRIMARY KEY (name, stamp));
    CREATE TABLE IF NOT EXISTS atoms (name TEXT PRIMARY KEY, document TEXT NOT NULL, version INTEGER NOT NULL);
"""


class Handler(http.server.BaseHTTPRequestHandler):
    """A client's connection, in a thread of its own, with a connection to SQLite of its own."""
    protocol_version = "HTTP/1.1"
    timeout = IDLE_SECONDS_MAX
    disable_nagle_algorithm = True
    wbufsize = -1  # headers and document leave together

    def handle(self):
        options = self.server.options
        with contextlib.closing(sqlite3.connect(options.file, timeout=BUSY_SECONDS_MAX, isolation_level=None)) as self.db:
            self.db.execute("PRAGMA synchronous = FULL")  # a commit returns, and others see it, when it is on disk
            self.db.execute(f"PRAGMA query_only = {int(options.read_only)}")
            if options.bytes_max:
                self.db.execute(f"PRAGMA max_page_count = {options.bytes_max // PAGE_BYTES}")
            super().handle()

    def do(self):
        size = int(self.headers.get("Content-Length", 0))
        if size > DOCUMENT_BYTES_MAX:
            return self.answer(413, f"document_bytes_max={DOCUMENT_BYTES_MAX}")
        try:
            body = self.rfile.read(size).decode()
            if self.command == "PUT":
                json.loads(body)
            self.answer(*self.work(urllib.parse.urlsplit(self.path), body))
        except ValueError as error:
            self.answer(400, str(error))
        except sqlite3.Error as error:
            self.answer(STATUS.get(getattr(error, "sqlite_errorcode", 0) & 0xFF, 500), str(error))

    do_GET = do_PUT = do_DELETE = do

    def work(self, url, body):
        state = re.fullmatch("/states/([^/]+)/([A-Za-z0-9-]{1,64})", url.path)
        atom = re.fullmatch("/atoms/([^/]+)", url.path)
        if not state and not atom:
            raise ValueError("expected /states/NAME/STAMP or /atoms/NAME")
        name = urllib.parse.unquote((state or atom)[1], errors="strict")
        stamp = state and state[2]
        version = 0 if state or self.command == "GET" else int(urllib.parse.parse_qs(url.query).get("version", [""])[0])
        if self.command == "GET":
            rows = self.sql("SELECT document FROM states WHERE name = ? AND stamp = ?", name, stamp) if state else \
                self.sql("SELECT document FROM atoms WHERE name = ?", name)
            return (200, rows[0][0]) if rows else (404, "null")
        if self.command == "DELETE":
            if state:
                self.sql("DELETE FROM states WHERE name = ? AND stamp = ?", name, stamp)
            else:
                self.sql("DELETE FROM atoms WHERE name = ? AND version < ?", name, version)
        elif state:
            # What is there already stays, and is told.
            rows = self.sql("INSERT INTO states VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET document = document "
                            "RETURNING document", name, stamp, body)
            if rows[0][0] != body:
                return 409, "another document is there"
        else:
            self.sql("INSERT INTO atoms VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET document = excluded.document, "
                     "version = excluded.version WHERE excluded.version >= version", name, body, version)
        return 204, ""

    def sql(self, statement, *parameters):
        return self.db.execute(statement, parameters).fetchall()

    def answer(self, status, text):
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json" if status in (200, 404) else "text/plain; charset=utf-8")
        if status != 204:
            self.send_header("Content-Length", str(len(body)))
        if status in (400, 413):
            self.send_header("Connection", "close")  # who knows where the next request begins
        self.end_headers()
        self.wfile.write(body)

    def log_request(self, code="-", size="-"):
        """Each request: not worth a line."""


class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 256


def main():
    parser = argparse.ArgumentParser(description="keeps JSON documents in SQLite, by HTTP")
    parser.add_argument("--listen", default="127.0.0.1:8080", help="host:port")
    parser.add_argument("--file", default="states.sqlite", help="made if absent")
    parser.add_argument("--bytes-max", type=int, default=0, help="of the file; 0: what the disk has room for")
    parser.add_argument("--read-only", action="store_true", help="PUT and DELETE are forbidden")
    options = parser.parse_args()
    with contextlib.closing(sqlite3.connect(options.file)) as db:
        db.executescript(SCHEMA)
        host, port = options.listen.rsplit(":", 1)
        server = Server((host, int(port)), Handler)
        server.options = options
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
        print(f"states: serving on {host}:{server.server_port}", flush=True)
        server.serve_forever()


if __name__ == "__main__":
    main()
