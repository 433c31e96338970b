"""The probe's script, its shell twin, and what it makes of NVML's answers."""

import json
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import pytest

from dorabatch.node import gpu_probe, probe_script
from dorabatch.node.facts import parse_probe

SHELL_LINES = """started_at=1000.25
hostname=n1
boot_id=b
cores=0-2,5
cpu_model=AMD EPYC
memory_kib=2048000
disk=/dev/vda 264212084 22992544 83398368 22% /
has_smi=yes
gpu=GPU-a, Tesla V100-SXM2-16GB, 0, 16384, 12, [N/A], 535.1
gpu=GPU-b, Tesla V100-SXM2-16GB, 1, 16384, 0, 7, 535.1
process=GPU-a, 55
process=GPU-a, 12
printed_at=1001
"""


def parse(text: str) -> Any:
    return parse_probe(text, docker_version="", asked_at=1000.0, answered_at=1001.0)


def test_script_runs_on_a_bare_python() -> None:
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-"],
        input=gpu_probe.script_text().encode(),
        capture_output=True,
        check=True,
    )
    facts = parse(done.stdout.decode())
    assert facts.boot_id and facts.cores and facts.memory_mib > 0


def test_shell_probe_runs_here() -> None:
    done = subprocess.run(
        ["sh", "-s"],
        input=gpu_probe.SHELL_PROBE.encode(),
        capture_output=True,
        check=True,
    )
    shell = parse(gpu_probe.document_of_shell_probe(done.stdout.decode()))
    python = probe_script.machine_document()
    assert shell.hostname == python["hostname"]
    assert shell.boot_id == python["boot_id"]
    assert shell.cpu_model == python["cpu_model"]
    assert set(python["cores"]) <= set(shell.cores)


def test_shell_lines() -> None:
    facts = parse(gpu_probe.document_of_shell_probe(SHELL_LINES))
    assert facts.probe == "nvidia-smi" and facts.driver_version == "535.1"
    assert facts.cores == (0, 1, 2, 5)
    assert facts.memory_mib == 2000 and facts.disk_free_mib == 81443
    first, second = facts.gpus
    assert first.process_pids == (12, 55) and first.utilization_percent is None
    assert second.minor == 1 and second.utilization_percent == 7
    assert facts.clock_offset_seconds == pytest.approx(0.375)


def test_shell_lines_without_a_gpu() -> None:
    lines = [line for line in SHELL_LINES.splitlines() if "PU-" not in line]
    text = "\n".join(line for line in lines if line != "has_smi=yes")
    facts = parse(gpu_probe.document_of_shell_probe(text))
    assert facts.probe == "none" and facts.gpus == () and facts.gpu_error is None


def test_shell_lines_with_a_silent_driver() -> None:
    text = SHELL_LINES.replace("gpu=", "gone=") + "gpu_error=NVML: driver mismatch\n"
    facts = parse(gpu_probe.document_of_shell_probe(text))
    assert facts.gpu_error == "NVML: driver mismatch"


def test_shell_lines_that_say_nothing_are_refused() -> None:
    with pytest.raises(Exception, match="probe"):
        parse(gpu_probe.document_of_shell_probe(""))


def test_arguments(capsys: pytest.CaptureFixture[str]) -> None:
    assert gpu_probe.main(["--print-script"]) == 0
    assert "PYNVML_SOURCE" in capsys.readouterr().out
    assert gpu_probe.main([]) == 0
    assert json.loads(capsys.readouterr().out)["cores"]
    assert gpu_probe.main(["--what"]) == 2
    assert "--print-script" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "cores"), [("0-3,8", {0, 1, 2, 3, 8}), ("", set()), ("5", {5})]
)
def test_core_list(text: str, cores: set[int]) -> None:
    assert probe_script.parse_core_list(text) == cores


class Broken(Exception):
    """NVML's error in the stand-in below."""

    def __init__(self, value: int) -> None:
        super().__init__(f"error {value}")
        self.value = value


class Nvml:
    """NVML's names with answers that a test chooses: GPU 1 is lost."""

    NVMLError = Broken
    NVML_ERROR_NOT_SUPPORTED = 3
    NVML_ERROR_NO_PERMISSION = 4
    NVML_ERROR_LIBRARY_NOT_FOUND = 12
    NVML_ERROR_FUNCTION_NOT_FOUND = 13

    def __init__(self, *, init: int = 0, count: int = 0) -> None:
        self.init = init
        self.count = count
        self.is_shut = False

    def nvmlInit(self) -> None:
        if self.init:
            raise Broken(self.init)

    def nvmlShutdown(self) -> None:
        self.is_shut = True

    def nvmlDeviceGetCount(self) -> int:
        if self.count:
            raise Broken(self.count)
        return 3

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:
        if index == 1:
            raise Broken(15)
        return index

    def nvmlDeviceGetMemoryInfo(self, handle: int) -> Any:
        return SimpleNamespace(total=16384 << 20, used=5 << 20)

    def nvmlDeviceGetUtilizationRates(self, handle: int) -> Any:
        raise Broken(self.NVML_ERROR_NOT_SUPPORTED)

    def nvmlDeviceGetMinorNumber(self, handle: int) -> int:
        raise Broken(self.NVML_ERROR_FUNCTION_NOT_FOUND)

    def nvmlDeviceGetUUID(self, handle: int) -> bytes:
        return b"GPU-%d" % handle

    def nvmlDeviceGetName(self, handle: int) -> str:
        return "V100"

    def nvmlSystemGetDriverVersion(self) -> bytes:
        return b"535"

    def nvmlDeviceGetComputeRunningProcesses(self, handle: int) -> Any:
        raise Broken(self.NVML_ERROR_FUNCTION_NOT_FOUND)

    def nvmlDeviceGetComputeRunningProcesses_v2(self, handle: int) -> Any:
        return [SimpleNamespace(pid=9)]


def test_a_lost_gpu_hides_no_other() -> None:
    nvml = Nvml()
    part = probe_script.gpu_part(nvml)
    assert [gpu["uuid"] for gpu in part["gpus"]] == ["GPU-0", "GPU-2"]
    assert part["gpu_error"] == "GPU 1: error 15"
    assert part["gpus"][1]["minor"] == 2
    assert part["gpus"][0]["process_pids"] == [9]
    assert part["gpus"][0]["utilization_percent"] is None
    assert part["driver_version"] == "535" and nvml.is_shut


def test_no_library_means_a_node_without_gpus() -> None:
    part = probe_script.gpu_part(Nvml(init=12))
    assert (part["probe"], part["gpu_error"]) == ("none", None)


@pytest.mark.parametrize("nvml", [Nvml(init=9), Nvml(count=999)])
def test_a_driver_that_fails_is_told(nvml: Nvml) -> None:
    part = probe_script.gpu_part(nvml)
    assert part["probe"] == "pynvml" and "error" in part["gpu_error"]
    assert part["gpus"] == []


def test_without_pynvml_the_probe_says_so() -> None:
    assert "pynvml" in probe_script.gpu_part(None)["gpu_error"]
