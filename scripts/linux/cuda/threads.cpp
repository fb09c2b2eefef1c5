// MLX's threads that handle finished GPU work. Each belongs to a computing thread and is detached while it still holds a stream: at
// exit it returned the stream to a driver that had already shut down, and ended the process with "driver shutting down". They are
// joined instead, after they have been told to end.
#include <dlfcn.h>
#include <pthread.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include <mutex>
#include <thread>
#include <vector>

namespace {

bool is_mlx(void *address) {
  static void *const base = [] {
    Dl_info info;
    void *symbol = dlsym(RTLD_NEXT, "_ZN3mlx4core7versionEv");
    return symbol && dladdr(symbol, &info) ? info.dli_fbase : nullptr;
  }();
  Dl_info info;
  return base && dladdr(address, &info) && info.dli_fbase == base;
}

class Kept {
 public:
  void add(pthread_t thread) {
    std::lock_guard guard(lock);
    // The driver registers its own exit handler with the first stream, which is created before its thread: this handler runs first.
    if (!registered) registered = atexit([] { kept().wait(); }) == 0;
    std::erase_if(threads, [](pthread_t ended) { return pthread_tryjoin_np(ended, nullptr) == 0; });
    threads.push_back(thread);
  }

  // A thread whose owner is still running is never told to end, and is harmless.
  void wait() {
    std::lock_guard guard(lock);
    timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += 1;
    for (pthread_t thread : threads) pthread_timedjoin_np(thread, nullptr, &until);
    threads.clear();
  }

  static Kept &kept() {
    static auto *all = new Kept;
    return *all;
  }

 private:
  std::mutex lock;
  std::vector<pthread_t> threads;
  bool registered = false;
};

} // namespace

void std::thread::detach() {
  pthread_t thread = native_handle();
  if (is_mlx(__builtin_return_address(0))) Kept::kept().add(thread);
  else pthread_detach(thread);
  _M_id = id();
}
