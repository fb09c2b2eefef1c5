// What MLX computes on the CPU, it computes here in the thread that asks for it, linked before MLX's own. MLX hands each
// operation to a thread of the stream's, ten or more ahead: two threads a core that wake each other, and the results of
// operations that have not run yet allocated beside those that nobody has freed yet. This program evaluates on a thread
// for each core already. Operations run in the order they did; what waits for another thread's waits here.
#include "mlx/scheduler.h"

#include <exception>
#include <thread>
#include <utility>

#include "mlx/event.h"
#include "override.h"

namespace mlx::core::scheduler {

using Task = std::function<void()>;
using OnEvent = std::function<void(Event &)>;

// Member functions as the functions that they are to the linker, an extension of GCC's.
#pragma GCC diagnostic ignored "-Wpmf-conversions"
using Enqueue = void(Scheduler *, Stream, Task);
using ForEvent = void(Scheduler *, Stream, Event, OnEvent);
static Override<Enqueue> replaced_enqueue("scheduler", "Scheduler::enqueue", (Enqueue *)&Scheduler::enqueue);
static Override<ForEvent> replaced_wait_event("scheduler", "Scheduler::wait_event", (ForEvent *)&Scheduler::wait_event);
static Override<ForEvent> replaced_signal_event("scheduler", "Scheduler::signal_event", (ForEvent *)&Scheduler::signal_event);

// The first operation of this thread that failed since an event was last signalled. Those after it run, as they do in MLX.
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
  // Only the stream's thread can give an event its error. Whoever waits is to have it: to MLX's main thread it would be thrown
  // here as well, and the event never be signalled.
  std::thread([=, this, error = std::exchange(failure, nullptr)] {
    replaced_enqueue.mlx()(this, stream, [error] { std::rethrow_exception(error); });
    replaced_signal_event.mlx()(this, stream, event, task);
  }).join();
}

} // namespace mlx::core::scheduler
