// Compiles MLX's run-time kernels lazily, and caches them. MLX has NVRTC compile each kernel in up to 88 instances, for every
// number of dimensions and index type, of which a training step uses one or two: 24 kernels took 85 seconds. This intercepts MLX's
// calls of NVRTC and of the driver for these kernels. An NVRTC program only stores its source, the code that MLX gets is its
// number, and a kernel is an entry in a table until its first launch, when it is compiled. Other code and kernels are passed on.
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <list>
#include <mutex>

#include "compiler.h"
#include "driver.h"
#include "kernel_files.h"

using driver::Handle;
using driver::Result;

namespace {

constexpr Result invalid_image = 200, not_found = 500, out_of_memory = 2; // CUDA_ERROR_…

struct Program {
  compiler::Source source;
  std::list<std::string> names;
  std::string token;
};

// A kernel of MLX, identified by its table entry until it is loaded.
struct Kernel {
  Kernel(const compiler::Source *source, const char *name) : source(source), name(name) {}

  const compiler::Source *source;
  std::string name;
  std::mutex loading;
  std::atomic<Handle> function{nullptr};
  Result error = driver::success;
};

// Entries have addresses of their own, so that they differ from all handles of the driver.
template <typename Entry, size_t size>
class Table {
 public:
  // Null when the table is full.
  Handle add(Entry *entry) {
    size_t place = next.fetch_add(1);
    if (place >= size) return nullptr;
    places[place].store(entry);
    return &places[place];
  }

  // Null for a handle that is not of this table.
  Entry *at(Handle handle) const {
    auto *place = static_cast<const std::atomic<Entry *> *>(handle);
    return place >= places && place < places + size ? place->load() : nullptr;
  }

 private:
  std::atomic<Entry *> places[size];
  std::atomic<size_t> next{0};
};

Table<const compiler::Source, 1 << 14> modules;
Table<Kernel, 1 << 18> kernels;

constexpr char magic[] = "source of a module of kernels ";

void say_progress() {
  using clock = std::chrono::steady_clock;
  static const clock::time_point started = clock::now();
  static clock::time_point said = started;
  static int compiled = 0;
  compiled++;
  if (clock::now() - said < std::chrono::seconds(3)) return;
  said = clock::now();
  fprintf(stderr, "compiling  %d kernels for this GPU so far, kept for later runs\n", compiled);
}

Result load(Kernel &kernel) {
  std::string place = kernel_files::name(*kernel.source, kernel.name);
  compiler::Kernel compiled;
  bool kept = kernel_files::read(place, kernel.name, compiled);
  if (!kept) {
    compiled = compiler::compile(*kernel.source, kernel.name);
    if (!compiled.problem.empty()) {
      fprintf(stderr, "warning  a GPU kernel of MLX's does not compile, %s: %s\n", kernel.name.c_str(), compiled.problem.c_str());
      return invalid_image;
    }
    kernel_files::write(place, kernel.name, compiled);
    static std::mutex counting;
    std::lock_guard lock(counting);
    say_progress();
  }
  Handle module, function;
  Result error = DRIVER("cuModuleLoadDataEx", &module, static_cast<const void *>(compiled.code.data()), 0u, static_cast<int *>(nullptr),
                        static_cast<void **>(nullptr));
  if (!error) error = DRIVER("cuModuleGetFunction", &function, module, compiled.symbol.c_str());
  if (!error) kernel.function = function;
  return error;
}

// The driver's handle of a kernel: `handle` itself, unless it is an entry of the table.
Result real(Handle handle, Handle &function) {
  function = handle;
  Kernel *kernel = kernels.at(handle);
  if (!kernel) return driver::success;
  function = kernel->function;
  if (function) return driver::success;
  std::lock_guard lock(kernel->loading);
  if (!kernel->function && !kernel->error) kernel->error = load(*kernel);
  function = kernel->function;
  return kernel->error;
}

} // namespace

extern "C" {

// MLX's calls of NVRTC. Version and error messages come from NVRTC itself.

int nvrtcCreateProgram(Program **program, const char *text, const char *, int headers, const char *const *contents, const char *const *names) {
  *program = new Program;
  (*program)->source.text = text;
  for (int i = 0; i < headers; i++) (*program)->source.headers[names[i]] = contents[i];
  return 0;
}

int nvrtcAddNameExpression(Program *program, const char *name) {
  program->names.push_back(name);
  return 0;
}

int nvrtcCompileProgram(Program *program, int count, const char *const *options) {
  program->source.options.assign(options, options + count);
  // Never freed: MLX keeps its modules.
  program->token = magic + std::to_string(reinterpret_cast<uintptr_t>(new compiler::Source(program->source)));
  return 0;
}

int nvrtcGetLoweredName(Program *program, const char *name, const char **lowered) {
  for (const std::string &known : program->names)
    if (known == name) {
      *lowered = known.c_str();
      return 0;
    }
  return 10; // NVRTC_ERROR_NAME_EXPRESSION_NOT_VALID
}

int nvrtcGetCUBINSize(Program *program, size_t *size) {
  *size = program->token.size() + 1;
  return 0;
}

int nvrtcGetCUBIN(Program *program, char *code) {
  memcpy(code, program->token.c_str(), program->token.size() + 1);
  return 0;
}

int nvrtcGetPTXSize(Program *program, size_t *size) { return nvrtcGetCUBINSize(program, size); }
int nvrtcGetPTX(Program *program, char *code) { return nvrtcGetCUBIN(program, code); }

int nvrtcGetProgramLogSize(Program *, size_t *size) {
  *size = 1;
  return 0;
}

int nvrtcGetProgramLog(Program *, char *log) {
  *log = 0;
  return 0;
}

int nvrtcDestroyProgram(Program **program) {
  delete *program;
  *program = nullptr;
  return 0;
}

// MLX's calls of the driver.

Result cuModuleLoadDataEx(Handle *module, const void *image, unsigned count, int *options, void **values) {
  if (memcmp(image, magic, sizeof magic - 1) != 0) return DRIVER("cuModuleLoadDataEx", module, image, count, options, values);
  const char *number = static_cast<const char *>(image) + sizeof magic - 1;
  *module = modules.add(reinterpret_cast<const compiler::Source *>(strtoull(number, nullptr, 10)));
  return *module ? driver::success : out_of_memory;
}

Result cuModuleGetFunction(Handle *function, Handle module, const char *name) {
  const compiler::Source *source = modules.at(module);
  if (!source) return DRIVER("cuModuleGetFunction", function, module, name);
  *function = kernels.add(new Kernel(source, name));
  return *function ? driver::success : out_of_memory;
}

Result cuModuleUnload(Handle module) { return modules.at(module) ? driver::success : DRIVER("cuModuleUnload", module); }

Result cuFuncSetAttribute(Handle handle, int attribute, int value) {
  Handle function;
  Result error = real(handle, function);
  return error ? error : DRIVER("cuFuncSetAttribute", function, attribute, value);
}

// MLX calls this at a kernel's first use, and marks the kernel as queried before it has the result: another thread would then
// launch it with zero threads. So the result does not wait for the compiler: 256 threads fit for every kernel, whatever its number
// of registers (at most 255 per thread, of 65,536).
Result cuOccupancyMaxPotentialBlockSize(int *grid, int *block, Handle handle, void *shared_memory, size_t bytes, int limit) {
  if (!kernels.at(handle)) return DRIVER("cuOccupancyMaxPotentialBlockSize", grid, block, handle, shared_memory, bytes, limit);
  *grid = 1;
  *block = 256;
  return driver::success;
}

Result cuGraphAddKernelNode_v2(Handle *node, Handle graph, const Handle *dependencies, size_t count, const driver::KernelNode *kernel) {
  driver::KernelNode with_function = *kernel;
  Result error = real(kernel->function, with_function.function);
  const driver::KernelNode *passed = &with_function;
  return error ? error : DRIVER("cuGraphAddKernelNode_v2", node, graph, dependencies, count, passed);
}

Result cuLaunchKernelEx(const void *config, Handle handle, void **arguments, void **extra) {
  Handle function;
  Result error = real(handle, function);
  return error ? error : DRIVER("cuLaunchKernelEx", config, function, arguments, extra);
}
}
