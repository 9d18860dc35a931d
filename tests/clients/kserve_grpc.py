#!/usr/bin/python3
# KServe v2 over gRPC as Debian's python3-grpcio asks for it, with classes that protoc makes of the published
# protocol's messages: health, metadata, infer, streams, cancellation, keys, TLS.
# usage: kserve_grpc.py SMELT SOURCE_DIR. Exit 77 (skipped) where a package or the library is missing.
import atexit
import json
import os
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

smelt, source = os.path.realpath(sys.argv[1]), sys.argv[2]
try:
    import grpc
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
except ImportError as e:
    print(f"{e}: skipped; python3-grpcio and python3-protobuf are needed")
    sys.exit(77)
if not os.path.exists(os.path.join(os.path.dirname(smelt), "libsmelt_grpc.so")):
    print("libsmelt_grpc.so is not built: skipped")
    sys.exit(77)

work = tempfile.mkdtemp()


def load_messages():
    """The messages of the .proto, without generated files."""
    out = os.path.join(work, "kserve.desc")
    subprocess.run(["protoc", f"-I{source}/src/server/grpc", f"--descriptor_set_out={out}", "kserve.proto"], check=True)
    files = descriptor_pb2.FileDescriptorSet.FromString(open(out, "rb").read())
    pool = descriptor_pool.DescriptorPool()
    for file in files.file:
        pool.Add(file)
    factory = message_factory.MessageFactory(pool)
    return lambda name: factory.GetPrototype(pool.FindMessageTypeByName("inference." + name))


message = load_messages()


class Stub:
    def __init__(self, channel):
        self.channel = channel

    def call(self, method, request=None, response=None, timeout=60, key=None, **fields):
        make = self.channel.unary_unary(
            f"/inference.GRPCInferenceService/{method}",
            request_serializer=lambda m: m.SerializeToString(),
            response_deserializer=message(response or f"{method}Response").FromString,
        )
        metadata = [("authorization", f"Bearer {key}")] if key else None
        return make(request or message(f"{method}Request")(**fields), timeout=timeout, metadata=metadata)

    def stream(self, requests, timeout=60):
        return self.channel.stream_stream(
            "/inference.GRPCInferenceService/ModelStreamInfer",
            request_serializer=lambda m: m.SerializeToString(),
            response_deserializer=message("ModelStreamInferResponse").FromString,
        )(requests, timeout=timeout)


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Server:
    def __init__(self, *options, env=None):
        self.port = free_port()
        command = [smelt, "serve", f"{source}/models/demo-5m", "--port", "0", "--grpc-port", str(self.port), *options]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, **(env or {})})
        atexit.register(self.process.kill)
        self.address = self.process.stdout.readline().strip()
        assert self.address.startswith("http"), self.address
        self.stub = Stub(grpc.insecure_channel(f"127.0.0.1:{self.port}"))

    def stop(self):
        self.process.terminate()
        code = self.process.wait(timeout=60)
        assert code == 0, code


def with_length(texts):
    return b"".join(struct.pack("<I", len(t.encode())) + t.encode() for t in texts)


def question(texts, raw=True, **parameters):
    request = message("ModelInferRequest")(model_name="demo-5m", id="7")
    tensor = request.inputs.add(name="text_input", datatype="BYTES", shape=[len(texts), 1])
    if raw:
        request.raw_input_contents.append(with_length(texts))
    else:
        tensor.contents.bytes_contents.extend(t.encode() for t in texts)
    kinds = {bool: "bool_param", int: "int64_param", str: "string_param", float: "double_param"}
    for name, value in parameters.items():
        setattr(request.parameters[name], kinds[type(value)], value)
    return request


def texts_of(response, name="text_output"):
    names = [o.name for o in response.outputs]
    data, texts = response.raw_output_contents[names.index(name)], []
    while data:
        n = struct.unpack("<I", data[:4])[0]
        texts.append(data[4 : 4 + n].decode())
        data = data[4 + n :]
    return texts


def fails(code, work, word=""):
    try:
        work()
    except grpc.RpcError as e:
        assert e.code() == code and word in e.details(), (e.code(), e.details())
        return
    raise AssertionError(f"expected {code}")


def over_http(server, prompt, n):
    body = {"prompt": prompt, "max_tokens": n, "temperature": 0, "ignore_eos": True}
    request = urllib.request.Request(f"{server.address}/v1/completions", json.dumps(body).encode())
    with urllib.request.urlopen(request) as answer:
        return json.load(answer)["choices"][0]["text"]


greedy = {"max_tokens": 24, "temperature": 0.0, "ignore_eos": True}
prompts = ["The capital of France is", "Once upon a time", "One two three"]


def test_infer(server):
    stub = server.stub
    assert stub.call("ServerLive").live and stub.call("ServerReady").ready
    assert stub.call("ModelReady", name="demo-5m").ready
    assert "model_repository" in stub.call("ServerMetadata").extensions
    metadata = stub.call("ModelMetadata", name="demo-5m", version="1")
    assert metadata.inputs[0].name == "text_input" and list(metadata.inputs[0].shape) == [-1, 1], metadata
    config = stub.call("ModelConfig", name="demo-5m").config
    assert config.backend == "smelt" and config.max_batch_size > 0 and config.model_transaction_policy.decoupled
    assert config.input[0].data_type == 13  # TYPE_STRING
    index = stub.call("RepositoryIndex").models
    assert [(m.name, m.state) for m in index] == [("demo-5m", "READY")], index

    expected = [over_http(server, p, 24) for p in prompts]
    for raw in (True, False):
        answer = stub.call("ModelInfer", question(prompts, raw, **greedy))
        assert texts_of(answer) == expected, (texts_of(answer), expected)
        assert answer.id == "7" and answer.model_version == "1"
        assert list(answer.outputs[0].shape) == [3, 1]
    one = question(prompts[:1], **greedy)
    one.outputs.add(name="text_output")
    assert len(stub.call("ModelInfer", one).outputs) == 1
    # Many at a time.
    results = {}

    def ask(i):
        results[i] = texts_of(stub.call("ModelInfer", question([prompts[i % 3]], **greedy)))[0]

    threads = [threading.Thread(target=ask, args=(i,)) for i in range(24)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert all(results[i] == expected[i % 3] for i in range(24)), results
    return expected


def test_streams(server, expected):
    requests = [question([p], **greedy) for p in prompts]
    for i, r in enumerate(requests):
        r.id = str(i)
    pieces, n, last = {"0": "", "1": "", "2": ""}, 0, set()
    for response in server.stub.stream(iter(requests)):
        assert not response.error_message, response
        r = response.infer_response
        assert r.id not in last
        pieces[r.id] += texts_of(r)[0]
        n += 1
        if r.parameters["triton_final_response"].bool_param:
            last.add(r.id)
            assert texts_of(r, "finish_reason") == ["length"]
    assert list(pieces.values()) == expected and len(last) == 3 and n > 12, (pieces, n)
    # A fault ends its own answer alone.
    responses = list(server.stub.stream(iter([question(["a"], temperature=-1.0), question([prompts[0]], **greedy)])))
    assert "temperature" in responses[0].error_message
    assert "".join(texts_of(r.infer_response)[0] for r in responses if not r.error_message) == expected[0]


def n_running(server):
    with urllib.request.urlopen(f"{server.address}/performance") as answer:
        return json.load(answer)["models"][0]["queue"]


def metric(server, name):
    with urllib.request.urlopen(f"{server.address}/metrics") as answer:
        for line in answer.read().decode().splitlines():
            if line.startswith(name):
                return float(line.split()[-1])
    raise AssertionError(name)


def test_cancellation(server):
    before = metric(server, "smelt_requests_cancelled_total")
    call = server.stub.stream(iter([question(["Once"], max_tokens=900, ignore_eos=True)]))
    next(call)
    call.cancel()
    fails(grpc.StatusCode.DEADLINE_EXCEEDED,
          lambda: server.stub.call("ModelInfer", question(["Once"], max_tokens=900, ignore_eos=True), timeout=0.3))
    for _ in range(100):
        if metric(server, "smelt_requests_cancelled_total") == before + 2:
            break
        time.sleep(0.1)
    assert metric(server, "smelt_requests_cancelled_total") == before + 2
    assert metric(server, "smelt_num_requests_running") == 0


def test_faults(server):
    stub, code = server.stub, grpc.StatusCode
    fails(code.NOT_FOUND, lambda: stub.call("ModelReady", name="nobody"), "nobody")
    fails(code.NOT_FOUND, lambda: stub.call("ModelMetadata", name="demo-5m", version="2"), "version")
    unknown = question(["a"])
    unknown.model_name = "nobody"
    fails(code.NOT_FOUND, lambda: stub.call("ModelInfer", unknown), "nobody")
    fails(code.INVALID_ARGUMENT, lambda: stub.call("ModelInfer", question(["a"], top_p=9.0)), "top_p")
    fails(code.INVALID_ARGUMENT, lambda: stub.call("ModelInfer", question(["a"], stream=True)), "ModelStreamInfer")
    fails(code.INVALID_ARGUMENT, lambda: stub.call("ModelInfer", message("ModelInferRequest")(model_name="demo-5m")),
          "text_input")
    broken = question(["a"])
    broken.raw_input_contents[0] = b"\xff\xff\xff\xff"
    fails(code.INVALID_ARGUMENT, lambda: stub.call("ModelInfer", broken), "text_input")
    long = question(["word " * 3000])
    fails(code.INVALID_ARGUMENT, lambda: stub.call("ModelInfer", long), "context")
    fails(code.PERMISSION_DENIED, lambda: stub.call("RepositoryModelUnload", model_name="demo-5m"), "admin")
    fails(code.RESOURCE_EXHAUSTED, lambda: stub.call("ModelInfer", question(["x" * (17 << 20)])))
    assert "colour" in stub.call("ModelInfer", question(["a"], max_tokens=1, colour="blue")).parameters["warnings"].string_param


def test_keys_and_repository():
    admin = os.path.join(work, "admin")
    with open(admin, "w") as f:
        f.write("admin-key\n")
    server = Server("--admin-key-file", admin, env={"SMELT_API_KEY": "the-key"})
    stub, code = server.stub, grpc.StatusCode
    assert stub.call("ServerLive").live
    fails(code.UNAUTHENTICATED, lambda: stub.call("ModelInfer", question(["a"])))
    fails(code.UNAUTHENTICATED, lambda: stub.call("ModelInfer", question(["a"]), key="other"))
    assert stub.call("ModelInfer", question(["a"], max_tokens=1), key="the-key").outputs
    stub.call("RepositoryModelUnload", model_name="demo-5m", key="admin-key")
    assert stub.call("RepositoryIndex", key="the-key").models[0].state == "UNAVAILABLE"
    stub.call("RepositoryModelLoad", model_name="demo-5m", key="admin-key")
    assert stub.call("RepositoryIndex", key="the-key").models[0].state == "READY"
    server.stop()


def test_tls():
    key, certificate = os.path.join(work, "key.pem"), os.path.join(work, "certificate.pem")
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost",
                    "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout", key, "-out", certificate],
                   check=True, stderr=subprocess.DEVNULL)
    server = Server("--tls-cert", certificate, "--tls-key", key)
    with open(certificate, "rb") as f:
        credentials = grpc.ssl_channel_credentials(f.read())
    stub = Stub(grpc.secure_channel(f"localhost:{server.port}", credentials))
    assert stub.call("ModelInfer", question(["a"], max_tokens=1)).outputs
    fails(grpc.StatusCode.UNAVAILABLE, lambda: server.stub.call("ServerLive", timeout=5))
    server.stop()


server = Server()
expected = test_infer(server)
test_streams(server, expected)
test_cancellation(server)
test_faults(server)
# It ends with a call under way, which is told so.
endless = server.stub.stream(iter([question(["Once"], max_tokens=900, ignore_eos=True)]))
next(endless)
server.stop()
try:
    for _ in endless:
        pass
except grpc.RpcError:
    pass
test_keys_and_repository()
test_tls()
print("gRPC: infer, streams, cancellation, faults, keys, TLS")
