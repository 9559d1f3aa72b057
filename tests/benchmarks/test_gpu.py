"""What the GPU benchmark counts in a compiled program, and that a tiny one compiles."""

import importlib.util
import json
import subprocess
import sys

import pytest

from benchmarks import gpu
from benchmarks.gpu_program import HLO, Figures, Graphs, graphs, inexact_operations, shape_bytes
from jaxdodge.cli import guarded

PROGRAM = """
%body (p: (f32[8], s32[])) -> (f32[8], s32[]) {
  %p = (f32[8]{0}, s32[]) parameter(0)
  %x = f32[8]{0} get-tuple-element(%p), index=0
  %y = f32[8]{0} fusion(%x), kind=kLoop, calls=%plain
  ROOT %t = (f32[8]{0}, s32[]) tuple(%y, %i)
}
%condition (p: (f32[8], s32[])) -> pred[] {
  %p = (f32[8]{0}, s32[]) parameter(0)
  ROOT %less = pred[] fusion(%i), kind=kLoop, calls=%compared
}
%write (ring: f32[1000,8], row: f32[1,8], at: s32[]) -> f32[1000,8] {
  %ring = f32[1000,8]{1,0} parameter(0)
  %row = f32[1,8]{1,0} parameter(1)
  %at = s32[] parameter(2)
  ROOT %written = f32[1000,8]{1,0} dynamic-update-slice(%ring, %row, %at, %at)
}
ENTRY %main (a: f32[8]) -> f32[8] {
  %a = f32[8]{0} parameter(0)
  %start = (f32[8]{0}, s32[]) tuple(%a, %a)
  %counted = (f32[8]{0}, s32[]) while(%start), condition=%condition, body=%body, backend_config={LENGTH}
  %waiting = (f32[8]{0}, s32[]) while(%start), condition=%condition, body=%body
  %product = f32[8]{0} custom-call(%a, %a), custom_call_target="__cublas$gemm"
  %kernel = f32[8]{0} custom-call(%a), custom_call_target="__gpu$xla.gpu.triton"
  %ring = f32[1000,8]{1,0} parameter(1)
  %added = f32[1000,8]{1,0} fusion(%ring, %row, %at), kind=kLoop, calls=%write
  ROOT %out = f32[8]{0} copy(%a)
}
""".replace("LENGTH", '"known_trip_count":{"n":"5"}')


def test_loops_multiply_what_they_launch_and_slices_count_as_slices():
    figures = HLO(PROGRAM).figures()
    # Two in each of five turns, two in the one turn of the other loop, Triton's and the ring's.
    assert (figures.kernels, figures.copies, figures.library_calls) == (2 * 5 + 2 + 2, 1, 1)
    assert (figures.counted_loops, figures.waiting_loops) == (1, 1)
    ring, condition = 32, 1
    assert figures.bytes == 6 * (2 * 32 + condition) + 3 * 32 + 2 * 32 + ring + 2 * 32


def test_the_estimate_adds_the_waits_to_the_longer_of_launches_and_memory():
    assert Figures(kernels=4).seconds() == pytest.approx(10e-6)
    assert Figures(kernels=1, bytes=3.352e9).seconds() == pytest.approx(1e-3)
    assert Figures(kernels=4, waiting_loops=1, conditions=1).seconds() == pytest.approx(40e-6)


def test_a_shape_may_be_a_tuple():
    assert shape_bytes("(f32[2,3]{1,0}, pred[], bf16[4]{0}, u8[0]{0})") == 24 + 1 + 8


def test_what_cuda_graphs_launch_is_told_from_what_the_host_launches():
    thunks = """
001: kCopy          [source       | next=004 (3)] kCopy
004: kWhile         [prev=003 (1) | next=000 (1)]
condition:
    005: kCustomKernel [source | sink] compare grid: [1, 1, 1]
  body:
    000: kCommandBuffer [source | sink]
        006: kCustomKernel [source | sink] one grid: [1, 1, 1]
        007: kCustomKernel [source | sink] other grid: [1, 1, 1]
    008: kCustomKernel [source | sink] after grid: [1, 1, 1]
"""
    assert graphs(thunks) == Graphs(graphs=1, in_graphs=2, alone=3)


def test_operations_that_round_differently_are_found_by_kernel():
    ptx = """
    .visible .entry exact(
    mul.rn.f32 %f1, %f2, %f3; add.rn.f32 %f4, %f1, %f5; div.full.f32 %f1, %f2, %f3; and.b32 %r1, %r2, -4096;
    .visible .entry contracted(
    fma.rn.f32 %f1, %f2, %f3, %f4; fma.rn.f32 %f1, %f2, %f3, %f4; and.b32 %r1, %r2, -4096;
    .visible .entry rough(
    sqrt.approx.f32 %f1, %f2; mad.lo.s32 %r1, %r2, %r3, %r4;
    .visible .entry flushed(
    add.rn.ftz.f32 %f1, %f2, %f3;
    """
    assert inexact_operations(ptx) == {
        "contracted": {"fma.rn.f32": 2},
        "rough": {"sqrt.approx.f32": 1},
        "flushed": {"add.rn.ftz.f32": 1},
    }


def test_without_the_extra_the_message_names_it(monkeypatch, capsys):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert guarded(gpu.run, gpu.Options()) == 2
    assert "expected pip install 'jaxdodge[cuda]'" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.skipif(
    importlib.util.find_spec("jax_cuda13_plugin") is None, reason="needs the extra cuda, which is 3 GB"
)
def test_the_rules_compile_for_a_gpu_that_is_not_there(tmp_path):
    out = tmp_path / "gpu.json"
    command = "gpu", "--tiny", "--programs", "rules", "--frames-per-step", "1", "--out", f"{out}"
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", *command], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    (row,) = json.loads(out.read_text())["rows"]
    assert row["kernels"] > 0
    assert (row["waiting_loops"], row["inexact"]) == (0, {})
