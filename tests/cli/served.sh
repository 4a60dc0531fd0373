#!/bin/sh
# A tuning plan whose tries are served: the answers of a real server decide, and the server ends with the program, also
# with one that is killed; the same command then goes on.
. tests/tap.sh
cat >"$tmp/run.py" <<'PY'
import json, os, signal, socket, subprocess, sys, time
exe, tmp = os.path.realpath(os.environ["SLIMSCOPE"]), os.environ["TMP_DIR"]
bin = tmp + "/bin"
os.mkdir(bin)
os.symlink(sys.executable, bin + "/python")  # itself, not what a version manager has in its place
env = dict(os.environ, PATH=bin + ":" + os.environ["PATH"], PYTHONDONTWRITEBYTECODE="1")
with open(tmp + "/questions.jsonl", "w") as f:
    f.write('{"question": "2+2?", "answer": "4"}\n{"question": "3+3?", "answer": "6"}\n')
with open(tmp + "/replies.json", "w") as f:
    json.dump({"Question: 2+2?\nAnswer:": "4", "Question: 3+3?\nAnswer:": "7"}, f)

def plan(mode, target):
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    with open(tmp + "/plan.yaml", "w") as f:
        f.write(f"""strategy:
  type: standing_high
  anti_outlier_strategies: [[]]
  template:
    process:
      - type: linear_quant
        qconfig:
          act: {{scope: per_token, dtype: int8, symmetric: true, method: minmax}}
          weight: {{scope: per_channel, dtype: int8, symmetric: true, method: minmax}}
    save: [{{type: ascendv1_saver, part_file_size: 4}}]
evaluation:
  type: service_oriented
  demand: {{expectations: [{{dataset: mine, target: {target}, tolerance: 0}}]}}
  evaluation:
    port: {port}
    tasks: {{mine: {{path: {tmp}/questions.jsonl, kind: exact}}}}
  inference_engine:
    type: vllm-ascend
    port: {port}
    entrypoint: fake_server
    env_vars: {{PYTHONPATH: tests/lib}}
    args: {{mode: "{mode},", pid: {tmp}/pid, replies: {tmp}/replies.json}}
""")

def start():
    return subprocess.Popen([exe, "tune", "--model_path", "lab_models/demo", "--save_path", tmp + "/out", "--config",
                             tmp + "/plan.yaml"], env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

def until(done):
    for _ in range(6000):
        if done():
            return True
        time.sleep(0.01)
    return False

def asked():
    try:
        return "POST" in open(tmp + "/out/vllm_server.log").read()
    except OSError:
        return False

def gone():
    try:
        return open("/proc/%s/stat" % open(tmp + "/pid").read()).read().rsplit(")", 1)[1].split()[0] in "ZX"
    except OSError:
        return True

for name, sig in (("killed", signal.SIGKILL), ("cancelled", signal.SIGINT)):
    plan("slow", 0.5)
    p = start()
    print(name, until(asked), not gone(), end=" ")
    p.send_signal(sig)
    p.communicate(timeout=120)
    print(p.returncode, until(gone))
    os.remove(tmp + "/out/vllm_server.log")
plan("", 0.5)
p = start()
out, err = p.communicate(timeout=300)
print("served", p.returncode, "MET: " in out, "mine 0.5" in out, gone())
PY
timeout 500 env TMP_DIR="$tmp" SLIMSCOPE="$SLIMSCOPE" python3 "$tmp/run.py" >"$tmp/told" 2>"$tmp/err" || cat "$tmp/err"
for want in 'killed True True -9 True' 'cancelled True True 130 True' 'served 0 True True True'; do
    has "$tmp/told" "$want" "a served try: $want"
done
finish
