"""Pickles: data comes back, and nothing that they ask for is done."""

from __future__ import annotations

import collections
import io
import os
import pickle
import zipfile

import numpy as np
import pytest
import torch

from vidinv.checkpoints.errors import CheckpointError
from vidinv.checkpoints.unpickle import read_pickle


class Calls:
    """Pickled as a call of a function with these arguments."""

    def __init__(self, function, *arguments, state=None):
        self.reduced = (function, arguments) if state is None else (function, arguments, state)

    def __reduce__(self):
        return self.reduced


def touch(path) -> str:
    return f"touch {path}"


@pytest.fixture
def trap(tmp_path):
    """A file that is there once something was executed."""
    return tmp_path / "executed"


def refused(tmp_path, data: bytes) -> str:
    path = tmp_path / "network.pkl"
    path.write_bytes(data)
    with pytest.raises(CheckpointError) as caught:
        read_pickle(path)
    text = str(caught.value)
    assert "\n" not in text
    assert str(path) in text
    return text


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
def test_calls_are_refused_and_not_made(tmp_path, trap, protocol):
    commands = [
        Calls(os.system, touch(trap)),
        Calls(eval, f"open({str(trap)!r}, 'w')"),
        Calls(exec, f"open({str(trap)!r}, 'w')"),
        Calls(getattr, Calls(__import__, "os"), "system"),
        Calls(collections.OrderedDict, [("a", Calls(open, str(trap), "w"))]),
    ]
    for command in commands:
        text = refused(tmp_path, pickle.dumps({"G_ema": command}, protocol))
        assert "is refused: it asks for" in text
    assert not trap.exists()


def test_a_module_is_never_made_from_its_source(tmp_path, trap):
    """What NVIDIA's loader would execute: the source stays text."""
    data = assemble(
        "torch_utils.persistence",
        "_reconstruct_persistent_obj",
        {"module_src": f"open({str(trap)!r}, 'w')", "class_name": "G", "state": {"a": 1}},
    )
    path = tmp_path / "network.pkl"
    path.write_bytes(data)
    found = read_pickle(path)
    assert (found.class_name, found.state) == ("G", {"a": 1})
    assert not trap.exists()


def assemble(module: str, name: str, *arguments, then: bytes = b"") -> bytes:
    """A pickle that calls a global that need not exist here."""
    call = b"c" + f"{module}\n{name}\n".encode()
    values = b"".join(pickle.dumps(value, 2)[2:-1] for value in arguments)
    return b"\x80\x02" + call + b"(" + values + b"tR" + then + b"."


def storage(values: torch.Tensor) -> bytes:
    buffer = io.BytesIO()
    torch.save(values.storage(), buffer, _use_new_zipfile_serialization=False)
    return buffer.getvalue()


def tensor_pickle(offset: int, size: tuple, stride: tuple, values: bytes) -> bytes:
    """A tensor over a storage, as NVIDIA's files have it."""
    inner = b"ctorch.storage\n_load_from_bytes\n(" + pickle.dumps(values, 3)[2:-1] + b"tR"
    rest = b"".join(pickle.dumps(v, 2)[2:-1] for v in (offset, size, stride, False))
    return b"\x80\x03ctorch._utils\n_rebuild_tensor_v2\n(" + inner + rest + b"tR."


@pytest.fixture(scope="module")
def numbers() -> bytes:
    with pytest.warns(UserWarning, match="TypedStorage"):
        return storage(torch.arange(6.0))


def test_a_tensor_is_that_of_its_storage(tmp_path, numbers):
    path = tmp_path / "network.pkl"
    path.write_bytes(tensor_pickle(1, (2, 2), (1, 2), numbers))
    assert torch.equal(read_pickle(path), torch.tensor([[1.0, 3.0], [2.0, 4.0]]))


@pytest.mark.parametrize(
    ("offset", "size", "stride"),
    [
        (0, (7,), (1,)),
        (5, (2,), (1,)),
        (-1, (2,), (1,)),
        (0, (2,), (-1,)),
        (0, (1 << 40,), (0,)),
        (0, (3, 3), (1,)),
        (0, (2.0,), (1,)),
    ],
)
def test_a_tensor_outside_its_storage_is_refused(tmp_path, numbers, offset, size, stride):
    assert "tensor" in refused(tmp_path, tensor_pickle(offset, size, stride, numbers))


def test_a_storage_that_holds_a_pickle_executes_nothing(tmp_path, trap):
    for data in (
        pickle.dumps(Calls(os.system, touch(trap))),
        archive(pickle.dumps(Calls(os.system, touch(trap)))),
    ):
        refused(tmp_path, tensor_pickle(0, (1,), (1,), data))
    assert not trap.exists()


def archive(data: bytes) -> bytes:
    """A file of torch.save whose pickle is this one."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as folder:
        folder.writestr("archive/data.pkl", data)
        folder.writestr("archive/version", "3")
    return buffer.getvalue()


def test_what_may_be_called_cannot_be_changed(tmp_path):
    change = b"}" + b"(X\x05\x00\x00\x00_make" + b"cnumpy\ndtype\n" + b"ub"
    for name in ("torch.storage\n_load_from_bytes", "dnnlib.util\nEasyDict"):
        refused(tmp_path, b"\x80\x02c" + name.encode() + b"\n" + change + b".")
        slots = b"N" + change[:-1] + b"\x86b"  # a state of (None, slots) is set by setattr
        assert "a change of" in refused(
            tmp_path, b"\x80\x02c" + name.encode() + b"\n" + slots + b"."
        )


@pytest.mark.parametrize("code", ["O", "O8", "V8", "M8[s]"])
def test_numbers_alone_are_numpy_values(tmp_path, code):
    data = assemble("numpy", "dtype", code, False, True)
    assert "numpy values of type" in refused(tmp_path, data)


def test_numpy_values_come_back(tmp_path):
    path = tmp_path / "network.pkl"
    given = {"step": np.float64(0.25), "table": np.arange(6, dtype=np.int32).reshape(2, 3)}
    for protocol in (2, 3, 4):
        path.write_bytes(pickle.dumps(given, protocol))
        found = read_pickle(path)
        assert found["step"] == 0.25
        assert np.array_equal(found["table"].value, given["table"])


def test_damage_is_one_line(tmp_path):
    whole = pickle.dumps({"G_ema": [1, 2, 3]})
    for data in (b"", whole[:-4], b"\x80\x04\x95" + b"\xff" * 20, b"\x80\x02]R."):
        assert "cannot be read" in refused(tmp_path, data)


def test_persistent_storage_and_extensions_are_refused(tmp_path):
    assert "persistent storage" in refused(tmp_path, b"\x80\x02X\x01\x00\x00\x00aQ.")
    refused(tmp_path, b"\x80\x02\x82\x01.")
