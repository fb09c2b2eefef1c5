#include "kernel_files.h"

#include <dlfcn.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "../kernel_cache.h"
#include "mlx/version.h"

namespace {

constexpr char first_line[] = "mlx-gpt kernel 1";

uint64_t hash(uint64_t h, const std::string &bytes) { // FNV-1a, and the length, so that parts cannot move into each other
  for (unsigned char byte : bytes) h = (h ^ byte) * 0x100000001b3u;
  return (h ^ bytes.size()) * 0x100000001b3u;
}

// The folder for new files; empty if there is none.
const std::string &folder() {
  static const std::string chosen = [] {
    try {
      return kernel_cache::private_folder("gpu-kernels");
    } catch (const std::exception &) {
      return std::string();
    }
  }();
  return chosen;
}

// The folder of a bundle, beside MLX's library: <root>/kernels for <root>/mlx/lib/libmlx.so.
const std::string &bundled() {
  static const std::string chosen = [] {
    Dl_info info;
    void *symbol = dlsym(RTLD_NEXT, "_ZN3mlx4core7versionEv");
    if (!symbol || !dladdr(symbol, &info)) return std::string();
    std::error_code error;
    auto real = std::filesystem::canonical(info.dli_fname, error);
    return error ? std::string() : (real.parent_path().parent_path().parent_path() / "kernels").string();
  }();
  return chosen;
}

std::string body(const std::string &kernel, const compiler::Kernel &compiled) {
  std::string text = kernel + "\n" + compiled.symbol + "\n" + std::to_string(compiled.code.size()) + "\n" + compiled.code;
  char line[64];
  snprintf(line, sizeof line, "%s %016llx\n", first_line, (unsigned long long)hash(0xcbf29ce484222325u, text));
  return line + text;
}

bool read_from(const std::string &path, const std::string &kernel, compiler::Kernel &compiled) {
  std::ifstream file(path, std::ios::binary);
  if (!file) return false;
  std::string line, name, symbol, size;
  if (!std::getline(file, line) || !std::getline(file, name) || !std::getline(file, symbol) || !std::getline(file, size)) return false;
  std::string code{std::istreambuf_iterator<char>(file), {}};
  compiler::Kernel found{symbol, code, ""};
  if (name != kernel || body(kernel, found).compare(0, line.size(), line) != 0 || std::to_string(code.size()) != size) return false;
  compiled = std::move(found);
  return true;
}

} // namespace

std::string kernel_files::name(const compiler::Source &source, const std::string &kernel) {
  static const std::string versions = std::string(mlx::core::version()) + " " + compiler::version();
  std::string words;
  for (uint64_t start : {0xcbf29ce484222325u, 0x9e3779b97f4a7c15u}) {
    uint64_t h = hash(hash(hash(start, versions), source.text), kernel);
    for (const auto &[name, text] : source.headers) h = hash(hash(h, name), text);
    for (const std::string &option : source.options)
      if (option.rfind("--include-path=", 0) != 0) h = hash(h, option); // paths of headers differ between machines
    char word[20];
    snprintf(word, sizeof word, "%016llx", (unsigned long long)h);
    words += word;
  }
  return words + ".kernel";
}

bool kernel_files::read(const std::string &name, const std::string &kernel, compiler::Kernel &compiled) {
  for (const std::string &place : {folder(), bundled()})
    if (!place.empty() && read_from(place + "/" + name, kernel, compiled)) return true;
  return false;
}

void kernel_files::write(const std::string &name, const std::string &kernel, const compiler::Kernel &compiled) {
  if (folder().empty()) return;
  std::string making = folder() + "/making.XXXXXX", path = folder() + "/" + name, text = body(kernel, compiled);
  int file = mkstemp(making.data());
  if (file < 0) return;
  size_t done = 0;
  for (ssize_t n; done < text.size() && (n = ::write(file, &text[done], text.size() - done)) > 0;) done += n;
  if (close(file) != 0 || done < text.size() || rename(making.c_str(), path.c_str()) != 0) unlink(making.c_str());
}
