// Files in the cache are loaded and executed. So no other user may be able to write to the folder, or to replace it by renaming
// one of its parents. And files must be complete: a library truncated by a full disk causes a bus error later.
#include "kernel_cache.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <set>
#include <stdexcept>
#include <vector>

#include "mlx/version.h"

namespace {

// The value of an environment variable, if it is a path.
std::string path_from(const char *variable) {
  const char *value = getenv(variable);
  return value && *value == '/' ? value : "";
}

uint64_t hash(uint64_t h, const std::string &bytes) { // FNV-1a
  for (unsigned char byte : bytes) h = (h ^ byte) * 0x100000001b3u;
  return h;
}

// The lines of /proc/cpuinfo that determine `-march=native`, on x86_64 and on Arm.
uint64_t hash_processor(uint64_t h) {
  std::ifstream lines("/proc/cpuinfo");
  for (std::string line; std::getline(lines, line) && !line.empty();) // an empty line ends the first processor
    for (const char *start : {"vendor_id", "cpu family", "model", "flags", "CPU implementer", "CPU part", "Features"})
      if (line.rfind(start, 0) == 0) {
        h = hash(h, line);
        break;
      }
  return h;
}

uint64_t hash_gxx(uint64_t h) {
  const char *search = getenv("PATH");
  std::string folders = search ? search : "/usr/local/bin:/usr/bin:/bin"; // what a shell assumes
  for (size_t from = 0, to; from <= folders.size(); from = to + 1) {
    to = std::min(folders.find(':', from), folders.size());
    std::string path = folders.substr(from, to - from) + "/g++";
    char real[PATH_MAX];
    struct stat s;
    if (access(path.c_str(), X_OK) != 0 || !realpath(path.c_str(), real) || stat(real, &s) != 0) continue;
    return hash(h, real + (" " + std::to_string(s.st_size)) + " " + std::to_string(s.st_mtime));
  }
  return h;
}

uint64_t hash_contents(uint64_t h, const std::string &path) {
  std::ifstream file(path);
  return hash(h, {std::istreambuf_iterator<char>(file), {}});
}

bool belongs_here(const struct stat &s) { return s.st_uid == geteuid() || s.st_uid == 0; }
bool is_private(const struct stat &s) { return s.st_uid == geteuid() && !(s.st_mode & 022); }

// Whether only this user and root can replace a folder, given without links. In world-writable folders such as /tmp, the sticky
// bit keeps users from moving each other's files.
bool is_safe(const std::string &folder) {
  for (size_t end = 1; end != std::string::npos;) {
    struct stat s;
    if (lstat(folder.substr(0, end).c_str(), &s) != 0 || !S_ISDIR(s.st_mode) || !belongs_here(s)) return false;
    if ((s.st_mode & 022) && !(s.st_mode & S_ISVTX)) return false;
    end = end == folder.size() ? std::string::npos : std::min(folder.find('/', end + 1), folder.size());
  }
  return true;
}

// The path without links; empty if there is no such folder.
std::string resolved(const std::string &folder) {
  char real[PATH_MAX];
  return realpath(folder.c_str(), real) ? real : "";
}

// Creates `folder` and its missing parents, accessible only to this user. Returns its path without links; empty if it cannot be
// created, or if someone else could change its contents, which is then described in `unsafe`.
std::string make_private(const std::string &folder, std::string &unsafe) {
  std::string above = std::filesystem::path(folder).parent_path();
  struct stat s;
  if (stat(above.c_str(), &s) != 0 && (above == folder || make_private(above, unsafe).empty())) return "";
  std::string there = resolved(above);
  if (there.empty() || !is_safe(there)) {
    if (!there.empty() && unsafe.empty()) unsafe = there;
    return "";
  }
  std::string made = there + "/" + std::filesystem::path(folder).filename().string();
  if (mkdir(made.c_str(), 0700) != 0 && errno != EEXIST) return "";
  if (lstat(made.c_str(), &s) != 0) return "";
  if (!S_ISDIR(s.st_mode) || !is_private(s)) {
    if (unsafe.empty()) unsafe = made;
    return "";
  }
  return access(made.c_str(), W_OK) == 0 ? made : "";
}

// A folder for this process only, removed at its end. It is accessed through its descriptor, which is unaffected by renaming its
// parents.
class FreshFolder {
 public:
  // Its path; empty if it cannot be created.
  std::string make(const std::string &above) {
    name = above + "/mlx-gpt-XXXXXX";
    struct stat s;
    if (!mkdtemp(name.data())) return "";
    int folder = open(name.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW); // the compiler's processes need it too
    path = "/proc/self/fd/" + std::to_string(folder);
    made_by = getpid();
    bool usable = folder >= 0 && fstat(folder, &s) == 0 && is_private(s) && access(path.c_str(), W_OK) == 0;
    return usable ? path : "";
  }

  ~FreshFolder() {
    if (made_by != getpid()) return;
    std::error_code ignored;
    for (const auto &entry : std::filesystem::directory_iterator(path, ignored)) std::filesystem::remove_all(entry.path(), ignored);
    rmdir(name.c_str());
  }

 private:
  std::string name, path;
  pid_t made_by = 0;
};

std::string choose(const std::string &compiler) {
  char name[40];
  uint64_t key = hash_contents(hash_gxx(hash_processor(0xcbf29ce484222325u)), compiler);
  snprintf(name, sizeof name, "kernels-%016llx", (unsigned long long)key);
  return kernel_cache::private_folder(name);
}

// POSIX's checksum, as printed by `cksum`: of the bytes, followed by their number.
uint32_t checksum(const std::vector<unsigned char> &bytes, size_t n) {
  static const auto tables = [] { // eight bytes at a time
    std::array<std::array<uint32_t, 256>, 8> t;
    for (uint32_t byte = 0; byte < 256; byte++) {
      uint32_t c = byte << 24;
      for (int bit = 0; bit < 8; bit++) c = c << 1 ^ (c >> 31 ? 0x04c11db7u : 0);
      t[0][byte] = c;
    }
    for (int later = 1; later < 8; later++)
      for (uint32_t byte = 0; byte < 256; byte++) t[later][byte] = t[later - 1][byte] << 8 ^ t[0][t[later - 1][byte] >> 24];
    return t;
  }();
  uint32_t c = 0;
  size_t i = 0;
  for (; i + 8 <= n; i += 8) {
    const unsigned char *b = &bytes[i];
    c = tables[7][b[0] ^ c >> 24] ^ tables[6][b[1] ^ (c >> 16 & 255)] ^ tables[5][b[2] ^ (c >> 8 & 255)] ^ tables[4][b[3] ^ (c & 255)] ^
        tables[3][b[4]] ^ tables[2][b[5]] ^ tables[1][b[6]] ^ tables[0][b[7]];
  }
  auto one = [&c](unsigned char byte) { c = c << 8 ^ tables[0][c >> 24 ^ byte]; };
  for (; i < n; i++) one(bytes[i]);
  for (size_t length = n; length; length >>= 8) one(length & 255);
  return ~c;
}

// Whether a library ends with the line of its checksum and size that compile_kernel appended.
bool is_whole(const std::string &path) {
  constexpr size_t line = sizeof "kernel 0123456789 0123456789\n" - 1;
  int file = open(path.c_str(), O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
  struct stat s;
  bool readable = file >= 0 && fstat(file, &s) == 0 && S_ISREG(s.st_mode) && is_private(s) && s.st_size > (off_t)line;
  std::vector<unsigned char> bytes(readable ? s.st_size : 0);
  for (size_t done = 0; readable && done < bytes.size();) {
    ssize_t n = read(file, &bytes[done], bytes.size() - done);
    readable = n > 0;
    done += n;
  }
  if (file >= 0) close(file);
  if (!readable) return false;
  size_t size = bytes.size() - line;
  char expected[64];
  snprintf(expected, sizeof expected, "kernel %010u %010zu\n", checksum(bytes, size), size);
  return memcmp(&bytes[size], expected, line) == 0;
}

// Checks each library once. `making.…` files older than an hour are not being written any more.
void remove_damaged(const std::string &folder) {
  static std::set<std::string> whole;
  DIR *files = opendir(folder.c_str());
  if (!files) return;
  while (dirent *entry = readdir(files)) {
    std::string name = entry->d_name, path = folder + "/" + name;
    struct stat s;
    if (name.rfind("making.", 0) == 0) {
      if (lstat(path.c_str(), &s) == 0 && s.st_mtime < time(nullptr) - 3600) unlink(path.c_str());
    } else if (name.size() > 3 && name.compare(name.size() - 3, 3, ".so") == 0 && !whole.count(name)) {
      if (is_whole(path)) whole.insert(name);
      else unlink(path.c_str());
    }
  }
  closedir(files);
}

} // namespace

namespace kernel_cache {

std::string private_folder(const std::string &name) {
  std::string cache = path_from("XDG_CACHE_HOME"), home = path_from("HOME"), temporary = path_from("TMPDIR");
  if (temporary.empty()) temporary = "/tmp";
  std::vector<std::string> places;
  if (!cache.empty()) places.push_back(cache + "/mlx-gpt/" + name);
  if (!home.empty()) places.push_back(home + "/.cache/mlx-gpt/" + name);
  places.push_back(temporary + "/mlx-gpt-" + std::to_string(geteuid()) + "/" + name);
  std::string unsafe;
  for (const std::string &place : places) {
    std::string folder = make_private(place, unsafe);
    if (!folder.empty()) return folder;
  }
  static FreshFolder fresh;
  static const std::string folder = fresh.make(temporary);
  if (folder.empty())
    throw std::runtime_error("there is no folder for compiled functions: " + temporary + " cannot be written; set XDG_CACHE_HOME to one that can");
  if (!unsafe.empty())
    fprintf(stderr, "warning  other users can change %s, so that functions are compiled for this run alone; mend it with chmod, or set XDG_CACHE_HOME\n",
            unsafe.c_str());
  return folder;
}

std::string folder(const std::string &compiler) {
  static const std::string chosen = choose(compiler);
  // MLX would create these with the umask's permissions.
  std::string inner = chosen;
  for (const std::string &part : {std::string("mlx"), std::string(mlx::core::version()), std::string("cpu")}) {
    inner += "/" + part;
    struct stat s;
    if (lstat(inner.c_str(), &s) != 0) {
      if (mkdir(inner.c_str(), 0700) != 0) break; // MLX says what is wrong
    } else if (!S_ISDIR(s.st_mode) || !is_private(s)) {
      throw std::runtime_error("compiled functions are run, and others can change them in " + inner + "; move it away");
    }
  }
  remove_damaged(inner);
  return chosen;
}

} // namespace kernel_cache
