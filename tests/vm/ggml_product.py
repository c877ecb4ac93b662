"""A CUDA program that nobody here wrote, at its smallest: llama.cpp's prebuilt CUDA library multiplies two matrices by
cuBLAS and adds by a kernel of its own.

Run inside the guest. Prints "N products, largest error E" and ends with 0 when the device's products are those that
Python computes; with 77 when the library (scripts/fetch llama) is not there.
"""

import argparse
import ctypes
import pathlib
import random
import sys

COLUMNS, ROWS, OTHERS = 256, 64, 16
F32 = 0


class InitParams(ctypes.Structure):
    _fields_ = [("mem_size", ctypes.c_size_t), ("mem_buffer", ctypes.c_void_p), ("no_alloc", ctypes.c_bool)]


def load(packages: pathlib.Path) -> tuple[ctypes.CDLL, ctypes.CDLL]:
    package = packages / "@node-llama-cpp"
    base = package / "linux-x64-cuda" / "bins" / "linux-x64-cuda" / "libggml-base.so"
    cuda = package / "linux-x64-cuda-ext" / "bins" / "linux-x64-cuda" / "fallback" / "libggml-cuda.so"
    for file in (base, cuda):
        if not file.exists():
            print(f"skipped: {file} is not there; scripts/fetch llama gets it")
            sys.exit(77)
    return ctypes.CDLL(str(base), ctypes.RTLD_GLOBAL), ctypes.CDLL(str(cuda))


def declare(library: ctypes.CDLL, name: str, result: object, *arguments: object) -> None:
    function = getattr(library, name)
    function.restype = result
    function.argtypes = arguments


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--packages", type=pathlib.Path, required=True, help="the node_modules folder")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    ggml, cuda = load(options.packages)
    pointer, number = ctypes.c_void_p, ctypes.c_int64
    declare(cuda, "ggml_backend_cuda_init", pointer, ctypes.c_int)
    declare(ggml, "ggml_init", pointer, InitParams)
    declare(ggml, "ggml_new_tensor_2d", pointer, pointer, ctypes.c_int, number, number)
    declare(ggml, "ggml_mul_mat", pointer, pointer, pointer, pointer)
    declare(ggml, "ggml_add", pointer, pointer, pointer, pointer)
    declare(ggml, "ggml_new_graph", pointer, pointer)
    declare(ggml, "ggml_build_forward_expand", None, pointer, pointer)
    declare(ggml, "ggml_backend_alloc_ctx_tensors", pointer, pointer, pointer)
    declare(ggml, "ggml_backend_tensor_set", None, pointer, pointer, ctypes.c_size_t, ctypes.c_size_t)
    declare(ggml, "ggml_backend_tensor_get", None, pointer, pointer, ctypes.c_size_t, ctypes.c_size_t)
    declare(ggml, "ggml_backend_graph_compute", ctypes.c_int, pointer, pointer)
    declare(ggml, "ggml_backend_free", None, pointer)

    backend = cuda.ggml_backend_cuda_init(0)
    if not backend:
        sys.exit("llama.cpp's CUDA library found no device")
    context = ggml.ggml_init(InitParams(1 << 20, None, True))
    left = ggml.ggml_new_tensor_2d(context, F32, COLUMNS, ROWS)
    right = ggml.ggml_new_tensor_2d(context, F32, COLUMNS, OTHERS)
    product = ggml.ggml_mul_mat(context, left, right)
    graph = ggml.ggml_new_graph(context)
    twice = ggml.ggml_add(context, product, product)
    ggml.ggml_build_forward_expand(graph, twice)
    if not ggml.ggml_backend_alloc_ctx_tensors(context, backend):
        sys.exit("no memory on the device")

    # Small whole numbers: every sum is exact in floating point, in whatever order it is taken.
    choose = random.Random(options.seed)
    numbers = [[float(choose.randint(-8, 8)) for _ in range(COLUMNS)] for _ in range(ROWS + OTHERS)]
    for tensor, rows in ((left, numbers[:ROWS]), (right, numbers[ROWS:])):
        flat = [value for row in rows for value in row]
        data = (ctypes.c_float * len(flat))(*flat)
        ggml.ggml_backend_tensor_set(tensor, data, 0, ctypes.sizeof(data))
    status = ggml.ggml_backend_graph_compute(backend, graph)
    if status != 0:
        sys.exit(f"ggml_backend_graph_compute returned {status}")
    answer = (ctypes.c_float * (ROWS * OTHERS))()
    ggml.ggml_backend_tensor_get(twice, answer, 0, ctypes.sizeof(answer))
    error = 0.0
    for j, other in enumerate(numbers[ROWS:]):
        for i, row in enumerate(numbers[:ROWS]):
            right_answer = 2 * sum(a * b for a, b in zip(row, other))
            error = max(error, abs(answer[j * ROWS + i] - right_answer))
    ggml.ggml_backend_free(backend)
    print(f"{ROWS * OTHERS} products, largest error {error}")
    sys.exit(0 if error == 0.0 else 1)


if __name__ == "__main__":
    main()
