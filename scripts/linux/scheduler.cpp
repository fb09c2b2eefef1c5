// What MLX computes on the CPU, it computes here in the thread that asks for it, linked before MLX's own. MLX hands each
// operation to a thread of the stream's, ten or more ahead: two threads a core that wake each other, and the results of
// operations that have not run yet allocated beside those that nobody has freed yet. This program evaluates on a thread
// for each core already. Operations run in the order they did; what waits for another thread's waits here.
#include "mlx/scheduler.h"

#include "mlx/event.h"
#include "primitive.h"

using cpu_operations::mlx_own;

namespace mlx::core::scheduler {

// An operation of this thread failed. MLX tells whoever waits for its results, by what only its own threads can do: so from
// then on they compute for this one.
static thread_local bool failed = false;

void Scheduler::enqueue(Stream stream, std::function<void()> task) {
  if (!failed) try {
      task();
      return;
    } catch (...) {
      failed = true;
      task = [error = std::current_exception()]() { std::rethrow_exception(error); };
    }
  using Own = void(Scheduler *, Stream, std::function<void()>);
  static auto *mlx = mlx_own<Own>("_ZN3mlx4core9scheduler9Scheduler7enqueueENS0_6StreamESt8functionIFvvEE");
  mlx(this, stream, std::move(task));
}

using OnEvent = void(Scheduler *, Stream, Event, std::function<void(Event &)>);

void Scheduler::wait_event(Stream stream, Event event, std::function<void(Event &)> task) {
  if (!failed) return task(event);
  static auto *mlx = mlx_own<OnEvent>("_ZN3mlx4core9scheduler9Scheduler10wait_eventENS0_6StreamENS0_5EventESt8functionIFvRS4_EE");
  mlx(this, stream, std::move(event), std::move(task));
}

void Scheduler::signal_event(Stream stream, Event event, std::function<void(Event &)> task) {
  if (!failed) return task(event);
  static auto *mlx = mlx_own<OnEvent>("_ZN3mlx4core9scheduler9Scheduler12signal_eventENS0_6StreamENS0_5EventESt8functionIFvRS4_EE");
  mlx(this, stream, std::move(event), std::move(task));
}

} // namespace mlx::core::scheduler
