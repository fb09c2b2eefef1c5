// Runs CPU operations in the calling thread. MLX hands each operation to the stream's thread, ten or more ahead: two threads per
// core that wake each other, with more memory allocated ahead of its use. This program already has a thread per core.
// Operations run in the same order; waiting for another thread's result blocks the calling thread.
#include "mlx/scheduler.h"

#include <exception>
#include <thread>
#include <utility>

#include "mlx/event.h"
#include "override.h"

namespace mlx::core::scheduler {

using Task = std::function<void()>;
using OnEvent = std::function<void(Event &)>;

// Converts member functions to plain function pointers, an extension of GCC.
#pragma GCC diagnostic ignored "-Wpmf-conversions"
using Enqueue = void(Scheduler *, Stream, Task);
using ForEvent = void(Scheduler *, Stream, Event, OnEvent);
static Override<Enqueue> replaced_enqueue("scheduler", "Scheduler::enqueue", (Enqueue *)&Scheduler::enqueue);
static Override<ForEvent> replaced_wait_event("scheduler", "Scheduler::wait_event", (ForEvent *)&Scheduler::wait_event);
static Override<ForEvent> replaced_signal_event("scheduler", "Scheduler::signal_event", (ForEvent *)&Scheduler::signal_event);

// The first failure of this thread since an event was last signalled. Later operations still run, as in MLX.
static thread_local std::exception_ptr failure;

void Scheduler::enqueue(Stream stream, Task task) {
  if (!replaced_enqueue.use()) return replaced_enqueue.mlx()(this, stream, std::move(task));
  try {
    task();
  } catch (...) {
    if (!failure) failure = std::current_exception();
  }
}

void Scheduler::wait_event(Stream stream, Event event, OnEvent task) {
  if (!replaced_wait_event.use()) return replaced_wait_event.mlx()(this, stream, std::move(event), std::move(task));
  task(event);
}

void Scheduler::signal_event(Stream stream, Event event, OnEvent task) {
  if (!replaced_signal_event.use()) return replaced_signal_event.mlx()(this, stream, std::move(event), std::move(task));
  if (!failure) return task(event);
  // An error can only be attached to an event from the stream's own thread. Rethrowing here would reach the caller but leave
  // waiting threads blocked forever.
  std::thread([=, this, error = std::exchange(failure, nullptr)] {
    replaced_enqueue.mlx()(this, stream, [error] { std::rethrow_exception(error); });
    replaced_signal_event.mlx()(this, stream, event, task);
  }).join();
}

} // namespace mlx::core::scheduler
