// Compilation of the fused kernels of MLX's CPU backend. MLX calls `g++` from PATH, for a generic processor, and keeps the results
// in the temporary folder. This intercepts its calls, and only those: the compiler becomes the script beside MLX, which adds
// `-march=native`, and the folder a private one that survives reboots.
#include "kernel_compiler.h"

#include <dlfcn.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <mutex>
#include <string>

#include "kernel_cache.h"

namespace {

// The path of MLX's library, <root>/mlx/lib/libmlx.so, and of the files beside it.
struct MlxLibrary {
  void *base = nullptr;
  std::string path, compiler;

  MlxLibrary() {
    Dl_info info;
    void *symbol = dlsym(RTLD_NEXT, "_ZN3mlx4core7versionEv");
    if (!symbol || !dladdr(symbol, &info)) return;
    base = info.dli_fbase;
    path = info.dli_fname;
    std::error_code error;
    auto real = std::filesystem::canonical(path, error);
    if (!error) compiler = real.parent_path().parent_path().parent_path() / "bin" / "compile_kernel";
  }

  bool called(void *from) const {
    Dl_info info;
    return base && dladdr(from, &info) && info.dli_fbase == base;
  }

  // Whether the script exists; without it, nothing is changed.
  bool has_compiler() const { return !compiler.empty() && access(compiler.c_str(), X_OK) == 0; }
};

const MlxLibrary &library() {
  static const MlxLibrary found;
  return found;
}

template <typename Function>
Function *own_function(const char *symbol) {
  return reinterpret_cast<Function *>(dlsym(RTLD_NEXT, symbol));
}

// Quotes a text for a shell.
std::string shell_word(const std::string &text) {
  std::string word = "'";
  for (char c : text) word += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return word + "'";
}

void replace(std::string &text, const std::string &what, const std::string &with) {
  for (size_t at = 0; !what.empty() && (at = text.find(what, at)) != std::string::npos; at += with.size()) text.replace(at, what.size(), with);
}

std::string cache; // the folder, once MLX has asked for it

// A terminal and `timeout` send a signal to all processes of a group. It is for this program, which saves and stops; a compiler
// that ended by it would seem to be missing. What is started while signals are blocked never gets them; the shell that `popen` and
// `system` start has to replace itself by the compiler's (`exec`), since one that waits for another process may unblock them.
class SignalsBlocked {
 public:
  SignalsBlocked() {
    sigset_t requests;
    sigemptyset(&requests);
    for (int signal : {SIGINT, SIGHUP, SIGTERM}) sigaddset(&requests, signal);
    pthread_sigmask(SIG_BLOCK, &requests, &before);
  }
  ~SignalsBlocked() { pthread_sigmask(SIG_SETMASK, &before, nullptr); }

 private:
  sigset_t before;
};

// MLX's command, `g++ …` with paths in double quotes, in which a shell would expand `$` and quotes.
std::string rewritten(const char *command) {
  std::string rest = command + strlen("g++"), folder = std::filesystem::path(library().path).parent_path().parent_path();
  replace(rest, cache, "$cache");
  replace(rest, folder, "$mlx");
  return "cache=" + shell_word(cache) + " mlx=" + shell_word(folder) + "; exec " + shell_word(library().compiler) + rest;
}

bool is_for_compiler(const char *command, void *from) {
  return command && strncmp(command, "g++ ", 4) == 0 && library().called(from) && library().has_compiler();
}

} // namespace

extern "C" FILE *popen(const char *command, const char *mode) {
  static auto *own = own_function<FILE *(const char *, const char *)>("popen");
  if (!is_for_compiler(command, __builtin_return_address(0))) return own(command, mode);
  SignalsBlocked blocked;
  return own(rewritten(command).c_str(), mode);
}

extern "C" int system(const char *command) {
  static auto *own = own_function<int(const char *)>("system");
  if (!is_for_compiler(command, __builtin_return_address(0))) return own(command);
  SignalsBlocked blocked;
  return own(rewritten(command).c_str());
}

namespace std::filesystem {

path temp_directory_path() {
  static auto *own = own_function<path()>("_ZNSt10filesystem19temp_directory_pathB5cxx11Ev");
  if (!library().called(__builtin_return_address(0)) || !library().has_compiler()) return own();
  static std::mutex one_at_a_time;
  std::lock_guard lock(one_at_a_time);
  return cache = kernel_cache::folder(library().compiler);
}

} // namespace std::filesystem

void mlx_gpt_kernel_compiler(char name[128]) {
  name[0] = 0;
  if (getenv("MLX_DISABLE_COMPILE") || !library().has_compiler()) return;
  SignalsBlocked blocked;
  FILE *pipe = own_function<FILE *(const char *, const char *)>("popen")(("exec " + shell_word(library().compiler) + " --version 2>/dev/null").c_str(), "r");
  if (!pipe) return;
  if (!fgets(name, 128, pipe)) name[0] = 0;
  name[strcspn(name, "\n")] = 0;
  while (fgetc(pipe) != EOF) {}
  if (pclose(pipe) != 0) name[0] = 0;
}
