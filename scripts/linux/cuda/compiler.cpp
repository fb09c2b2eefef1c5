#include "compiler.h"

#include <dlfcn.h>

#include <mutex>
#include <stdexcept>

namespace {

using Program = void *;

template <typename Function>
Function *nvrtc(const char *name) {
  void *found = dlsym(RTLD_NEXT, name);
  if (!found) throw std::runtime_error(std::string("NVRTC has no ") + name);
  return reinterpret_cast<Function *>(found);
}

constexpr int invalid_option = 5; // NVRTC_ERROR_INVALID_OPTION

std::string text_of(Program program, const char *size_name, const char *name) {
  size_t size = 0;
  nvrtc<int(Program, size_t *)>(size_name)(program, &size);
  std::string text(size, '\0');
  if (size) nvrtc<int(Program, char *)>(name)(program, text.data());
  return text;
}

// Headers are read once a process and kept in the compiler's memory: 0.2 s for a kernel, and 1.4 s without.
int compile_with(const compiler::Source &source, const std::string &name, bool keep_headers, compiler::Kernel &kernel) {
  std::vector<const char *> headers, header_names, options;
  for (const auto &[header_name, text] : source.headers) {
    header_names.push_back(header_name.c_str());
    headers.push_back(text.c_str());
  }
  for (const std::string &option : source.options) options.push_back(option.c_str());
  if (keep_headers) options.push_back("--pch");
  Program program;
  // The file's name is part of what NVRTC knows kept headers by.
  int error = nvrtc<int(Program *, const char *, const char *, int, const char *const *, const char *const *)>("nvrtcCreateProgram")(
      &program, source.text.c_str(), "kernel.cu", headers.size(), headers.data(), header_names.data());
  if (!error) error = nvrtc<int(Program, const char *)>("nvrtcAddNameExpression")(program, name.c_str());
  if (!error) error = nvrtc<int(Program, int, const char *const *)>("nvrtcCompileProgram")(program, options.size(), options.data());
  const char *symbol = nullptr;
  if (!error) error = nvrtc<int(Program, const char *, const char **)>("nvrtcGetLoweredName")(program, name.c_str(), &symbol);
  if (!error) {
    kernel = {symbol, text_of(program, "nvrtcGetCUBINSize", "nvrtcGetCUBIN"), ""};
  } else {
    kernel.problem = nvrtc<const char *(int)>("nvrtcGetErrorString")(error) + std::string(": ") +
                     text_of(program, "nvrtcGetProgramLogSize", "nvrtcGetProgramLog").c_str();
  }
  nvrtc<int(Program *)>("nvrtcDestroyProgram")(&program);
  return error;
}

} // namespace

compiler::Kernel compiler::compile(const Source &source, const std::string &name) {
  static std::mutex one_at_a_time; // two that read headers at once would both keep them
  std::lock_guard lock(one_at_a_time);
  Kernel kernel;
  if (compile_with(source, name, true, kernel) == invalid_option) compile_with(source, name, false, kernel); // NVRTC before 12.8
  return kernel;
}

std::string compiler::version() {
  int major = 0, minor = 0;
  nvrtc<int(int *, int *)>("nvrtcVersion")(&major, &minor);
  return std::to_string(major) + "." + std::to_string(minor);
}
