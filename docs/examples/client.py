# KEEPSTEP_TOKEN=<user token> python3 client.py main|sub [message]   needs: pip install websockets
import json, os, pathlib, random, sys, time, urllib.request, uuid
from websockets.exceptions import ConnectionClosed, WebSocketException
from websockets.sync.client import connect
base, kind = os.environ.get("KEEPSTEP_URL", "http://127.0.0.1:8080"), (sys.argv + ["sub"])[1]
file, content, pause = pathlib.Path(f".keepstep-{kind}"), sys.argv[2:], 1
file.exists() or file.write_text(str(uuid.uuid4()))  # a device keeps its id: its queues wait under it
def post(path, body):
    headers = {"authorization": "Bearer " + os.environ["KEEPSTEP_TOKEN"]}
    return json.load(urllib.request.urlopen(urllib.request.Request(base + path, json.dumps(body).encode(), headers)))
token = post("/v1/devices", {"id": file.read_text(), "kind": kind, "name": "Python", "platform": "python"})["token"]
chat = post("/v1/chats", {"kind": "direct", "with": "bob"})["id"]  # the same chat each time
send = {"type": "send", "id": 1, "chat": chat, "key": str(uuid.uuid4()), "kind": "text", "content": " ".join(content)}
unsent, hello = [send] if content else [], [{"type": "ready"}] if kind == "sub" else []
while True:
    try:
        with connect(base.replace("http", "ws", 1) + "/v1/socket", subprotocols=["keepstep.v1", "bearer." + token]) as socket:
            put = lambda frame: socket.send(json.dumps(frame))
            while frame := json.loads(socket.recv()):
                if frame["type"] == "welcome":
                    for first in hello + unsent: put(first)  # what isn't answered goes out again, under the same key
                    pause = 1
                if frame["type"] == "message":
                    print(f"#{frame['seq']} {frame['from']}: {frame['content']}", flush=True)
                    put({"type": "ack", "chat": frame["chat"], "seq": frame["seq"]})
                if frame["type"] == "reply" and not frame.get("error", {}).get("retry"): unsent = []
    except ConnectionClosed as end: code, reason = (end.rcvd.code, end.rcvd.reason) if end.rcvd else (1006, "")
    except (OSError, WebSocketException) as error: code, reason = 1006, error
    print("closed:", code, reason, file=sys.stderr, flush=True)
    if 4400 <= code < 4500: sys.exit(1)  # 44xx: not by yourself. All else: again, ever more slowly
    time.sleep(pause * random.uniform(0.5, 1.5)); pause = min(pause * 2, 30)
