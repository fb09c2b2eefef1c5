"""Finds NVIDIA's libraries that MLX needs, and lists the missing ones.

    python3 needed.py FOLDER 12|13

Links those of the system or of this Python into FOLDER/nvidia, where MLX's library searches, and prints the names of the packages
with the others.
"""

import importlib.util
import os
import pathlib
import subprocess
import sys

# By folder in the search path of MLX's library: the required files, and the packages that contain them.
NEEDS = {
    13: {
        "cu13": (
            ["lib/libcublasLt.so.13", "lib/libcufft.so.12", "lib/libnvrtc.so.13", "include/cuda_fp16.h"],
            ["nvidia-cublas", "nvidia-cufft", "nvidia-cuda-nvrtc", "nvidia-cuda-runtime", "nvidia-cuda-crt"],
        ),
        "cudnn": (["lib/libcudnn.so.9"], ["nvidia-cudnn-cu13"]),
        "nccl": (["lib/libnccl.so.2"], ["nvidia-nccl-cu13"]),
    },
    12: {
        "cublas": (["lib/libcublasLt.so.12"], ["nvidia-cublas-cu12"]),
        "cufft": (["lib/libcufft.so.11"], ["nvidia-cufft-cu12"]),
        "cuda_nvrtc": (["lib/libnvrtc.so.12"], ["nvidia-cuda-nvrtc-cu12"]),
        "cuda_runtime": (["include/cuda_fp16.h"], ["nvidia-cuda-runtime-cu12"]),
        "cudnn": (["lib/libcudnn.so.9"], ["nvidia-cudnn-cu12"]),
        "nccl": (["lib/libnccl.so.2"], ["nvidia-nccl-cu12"]),
    },
}


def of_python():
    """The folders of the Python package `nvidia`, which PyTorch's wheels install."""
    found = importlib.util.find_spec("nvidia")
    return [pathlib.Path(p) for p in (found.submodule_search_locations if found else [])]


def of_system():
    """The names of the libraries that the loader finds."""
    try:
        listed = subprocess.run(["ldconfig", "-p"], capture_output=True, text=True).stdout
    except OSError:
        listed = ""
    return {line.split()[0] for line in listed.splitlines() if "=>" in line}


def toolkit():
    home = os.environ.get("CUDA_HOME") or os.environ.get("CUDA_PATH") or "/usr/local/cuda"
    return pathlib.Path(home)


def needed(folder, version):
    """Prints the missing packages. Folders are linked as a whole, since their libraries open each other."""
    nvidia = pathlib.Path(folder) / "nvidia"
    nvidia.mkdir(parents=True, exist_ok=True)
    system = of_system()
    for name, (files, packages) in NEEDS[version].items():
        link = nvidia / name
        if all((link / file).exists() for file in files):
            continue  # untouched: programs may be using it
        if link.is_symlink():
            link.unlink()
        whole = next((p / name for p in of_python() if all((p / name / file).exists() for file in files)), None)
        libraries = [file for file in files if file.startswith("lib/")]
        headers = [file for file in files if file.startswith("include/")]
        if whole:
            link.symlink_to(whole)
        elif not all(pathlib.Path(file).name in system for file in libraries) or not all((toolkit() / file).exists() for file in headers):
            print(*packages, sep="\n")


if __name__ == "__main__":
    needed(sys.argv[1], int(sys.argv[2]))
