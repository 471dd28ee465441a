"""A protoc plugin: gRPC stubs for Python and their types, for the files that declare a service.

buf cannot run grpc_tools' `grpc_python` generator (it is built into that protoc, not a plugin), and both
generators write an empty module for every file without a service. The plugin's options are passed on to
mypy-protobuf. A CodeGeneratorRequest comes in on standard
input, a CodeGeneratorResponse goes out on standard output.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from google.protobuf.compiler.plugin_pb2 import CodeGeneratorRequest, CodeGeneratorResponse
from google.protobuf.descriptor_pb2 import FileDescriptorSet


def main() -> None:
    request = CodeGeneratorRequest.FromString(sys.stdin.buffer.read())
    response = CodeGeneratorResponse(supported_features=CodeGeneratorResponse.FEATURE_PROTO3_OPTIONAL)
    if keep_files_with_services(request):
        response.file.extend(stubs(request))
        response.file.extend(stub_types(request))
    sys.stdout.buffer.write(response.SerializeToString())


def keep_files_with_services(request: CodeGeneratorRequest) -> bool:
    """Narrows what is to be generated; false when nothing is left."""
    with_services = {file.name for file in request.proto_file if file.service}
    kept = [name for name in request.file_to_generate if name in with_services]
    request.file_to_generate[:] = kept
    return bool(kept)


def stubs(request: CodeGeneratorRequest) -> list[CodeGeneratorResponse.File]:
    """`*_pb2_grpc.py`, by the generator inside grpc_tools."""
    with tempfile.TemporaryDirectory() as folder:
        descriptors = Path(folder, "descriptors.binpb")
        descriptors.write_bytes(FileDescriptorSet(file=request.proto_file).SerializeToString())
        out = Path(folder, "out")
        out.mkdir()
        protoc = [sys.executable, "-m", "grpc_tools.protoc"]
        inputs = [f"--descriptor_set_in={descriptors}", f"--grpc_python_out={out}", *request.file_to_generate]
        subprocess.run([*protoc, *inputs], check=True)
        return [
            CodeGeneratorResponse.File(name=path.relative_to(out).as_posix(), content=path.read_text("utf-8"))
            for path in sorted(out.rglob("*.py"))
        ]


def stub_types(request: CodeGeneratorRequest) -> list[CodeGeneratorResponse.File]:
    """`*_pb2_grpc.pyi`, by mypy-protobuf, which is a plugin of the same shape."""
    plugin = [sys.executable, "-c", "from mypy_protobuf.main import grpc; grpc()"]
    ran = subprocess.run(plugin, input=request.SerializeToString(), stdout=subprocess.PIPE, check=True)
    response = CodeGeneratorResponse.FromString(ran.stdout)
    if response.error:
        raise SystemExit(response.error)
    return list(response.file)


if __name__ == "__main__":
    main()
