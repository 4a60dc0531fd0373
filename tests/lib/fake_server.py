"""A small inference server for tests: the part of the OpenAI API that is asked for, over loopback.
usage: python3 -m fake_server --model DIR --host H --port P [--mode MODE]... [--reply TEXT | --replies FILE]
A word of MODE says what is wrong with it; the log and every request's body go to standard output."""
import argparse
import json
import os
import re
import signal
import socket
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

MODES = {"fail", "die", "late", "sick", "error", "huge", "close", "half", "slow", "stubborn", "nojson", "redirect",
         "nochoice", "child", "fall",
         "noprobs"}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def send(self, code, body, length=None):
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        if "sick" in args.mode:
            return self.send(503, b"not yet")
        if "redirect" in args.mode and self.path != "/moved":
            self.send_response(302)
            self.send_header("Location", "/moved")
            self.send_header("Content-Length", "0")
            return self.end_headers()
        self.send(200, json.dumps({"object": "list", "data": [{"id": args.served}]}).encode())

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        print("POST", self.path, body.decode(), flush=True)
        if "error" in args.mode:
            return self.send(500, b'{"error": "out of memory"}')
        if "close" in args.mode:
            self.close_connection = True
            return self.connection.shutdown(socket.SHUT_RDWR)
        if "half" in args.mode:
            self.close_connection = True
            return self.send(200, b'{"choices"', 1000)
        if "slow" in args.mode:
            time.sleep(30)
        if "huge" in args.mode:
            return self.send(200, b" " * (64 << 20))
        if "nojson" in args.mode:
            return self.send(200, b"<html>no</html>")
        if "nochoice" in args.mode:
            return self.send(200, b'{"choices": []}')
        if "fall" in args.mode:
            os._exit(9)
        asked = json.loads(body)
        prompt = asked["messages"][-1]["content"] if "messages" in asked else asked["prompt"]
        if asked.get("echo"):  # tokens are words with the blanks before them; those of "likely" are
            words = [m for m in re.finditer(r"\s*\S+", prompt)]
            p = [-0.5 if w.group().strip() in replies.get("likely", "").split() else -3.0 for w in words]
            probs = {"token_logprobs": [None] + p[1:] + [-9.0],
                     "text_offset": [w.start() for w in words] + [len(prompt)]}
            choice = {"index": 0, "text": prompt + " x", "logprobs": probs if "noprobs" not in args.mode else None}
            return self.send(200, json.dumps({"choices": [choice]}).encode())
        reply = replies.get(prompt, args.reply)
        choice = {"index": 0, "finish_reason": "stop"}
        choice.update({"message": {"role": "assistant", "content": reply}} if "messages" in asked else {"text": reply})
        self.send(200, json.dumps({"choices": [choice]}).encode())

    def log_message(self, fmt, *a):
        pass


class Server(ThreadingHTTPServer):
    address_family = socket.AF_INET
    allow_reuse_address = True

    def server_bind(self):  # without the look-up of a name, which may take long
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = self.server_address[:2]

    def handle_error(self, request, client_address):
        pass


parser = argparse.ArgumentParser()
parser.add_argument("--model", required=True)
parser.add_argument("--host", default="127.0.0.1")
parser.add_argument("--port", type=int, default=0)
parser.add_argument("--served-model-name", dest="served", default="served_model_name")
parser.add_argument("--mode", default="")
parser.add_argument("--reply", default="2 + 2 is 4.")
parser.add_argument("--replies")
parser.add_argument("--pid")
parser.add_argument("--trust-remote-code", action="store_true")
parser.add_argument("--extra")
args = parser.parse_args()
args.mode = set(filter(None, args.mode.split(",")))
assert args.mode <= MODES, args.mode
replies = json.load(open(args.replies)) if args.replies else {}
print("argv", sys.argv[1:], "session", os.getsid(0) == os.getpid(), flush=True)
if args.pid:
    with open(args.pid + ".new", "w") as f:
        f.write(str(os.getpid()))
    os.rename(args.pid + ".new", args.pid)
if "stubborn" in args.mode:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
if "fail" in args.mode:
    print("Traceback (most recent call last):\nValueError: no such quantization: ascend", file=sys.stderr, flush=True)
    sys.exit(3)
if "late" in args.mode:
    time.sleep(0.4)
if "child" in args.mode and os.fork() == 0:
    if args.pid:
        with open(args.pid + ".child", "w") as f:
            f.write(str(os.getpid()))
    time.sleep(60)
    os._exit(0)
if "die" in args.mode:
    time.sleep(0.2)
    sys.exit(1)
server = Server(("127.0.0.1" if args.host == "localhost" else args.host, args.port), Handler)
print("listening on", server.server_port, flush=True)
server.serve_forever()
