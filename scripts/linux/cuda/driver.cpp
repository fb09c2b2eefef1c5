// MLX's CUDA library depends on libcuda.so.1 of NVIDIA's driver; if it is missing, the loader ends the process with an unhelpful
// line before `main`. without_driver.py removes that dependency from the library, and this file defines the driver's functions that
// it calls: they call the driver, or print one line with the remedy.
#include "driver.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

namespace {

// Runs before `main`, when nothing needs cleanup.
void *open_driver() {
  void *library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_GLOBAL);
  if (!library) {
    dprintf(STDERR_FILENO,
            "error: this build computes on an NVIDIA GPU and finds no driver (libcuda.so.1); install NVIDIA's driver, or build for the "
            "processor: BACKEND=cpu make setup\n");
    _exit(1);
  }
  return library;
}

void *opened() {
  static void *library = open_driver();
  return library;
}

__attribute__((constructor)) void prepare() {
  opened();
  // MLX multiplies float32 in TF32, with 10 bits after the point instead of 23, unless it is told not to.
  setenv("MLX_ENABLE_TF32", "0", 0);
  // Disables MLX's disk cache of kernels: here it would not contain their code (see kernels.cpp).
  setenv("MLX_PTX_CACHE_DIR", "/dev/null/none", 1);
}

} // namespace

void *driver::find(const char *name) {
  void *found = dlsym(opened(), name);
  if (!found) {
    dprintf(STDERR_FILENO, "error: NVIDIA's driver has no %s, which MLX needs; install a newer driver\n", name);
    _exit(1);
  }
  return found;
}

using driver::Handle;
using driver::Result;

extern "C" {
Result cuGetErrorString(Result error, const char **words) { return DRIVER("cuGetErrorString", error, words); }
Result cuGraphCreate(Handle *graph, unsigned flags) { return DRIVER("cuGraphCreate", graph, flags); }
Result cuGraphGetNodes(Handle graph, Handle *nodes, size_t *count) { return DRIVER("cuGraphGetNodes", graph, nodes, count); }
Result cuGraphKernelNodeSetAttribute(Handle node, int attribute, const void *value) {
  return DRIVER("cuGraphKernelNodeSetAttribute", node, attribute, value);
}
Result cuTensorMapEncodeTiled(void *map, int type, uint32_t rank, void *address, const uint64_t *dims, const uint64_t *strides,
                              const uint32_t *box, const uint32_t *element_strides, int interleave, int swizzle, int promotion, int fill) {
  return DRIVER("cuTensorMapEncodeTiled", map, type, rank, address, dims, strides, box, element_strides, interleave, swizzle, promotion, fill);
}
}
